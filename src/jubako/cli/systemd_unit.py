"""A unit for systemd that keeps a scheduler running. Quoting as in systemd.service(5) and systemd.syntax(7)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["format_unit"]


def format_unit(line: Sequence[str], folder: str, state: str, *, is_root: bool) -> str:
    """The text of a unit that runs the command `line`, which ends with a pipeline, in `folder` with a state root.

    It is a user's own unit, unless the user is root.

    systemd signals the scheduler alone, which lets its runs end, and kills what is left of them after TimeoutStopSec:
    nothing is half published by that.
    """
    return "\n".join(
        [
            "[Unit]",
            f"Description=jubako schedule {_escape(line[-1])}",
            "",
            "[Service]",
            "Type=exec",
            f"WorkingDirectory={_escape(folder)}",
            f"Environment={_quote(f'JUBAKO_STATE={state}')}",
            f"ExecStart={' '.join(_quote(word, is_command=True) for word in line)}",
            "Restart=on-failure",
            "RestartSec=10",
            "KillMode=mixed",
            "TimeoutStopSec=1h",
            "",
            "[Install]",
            f"WantedBy={'multi-user' if is_root else 'default'}.target",
        ]
    )


def _quote(word: str, *, is_command: bool = False) -> str:
    """A word as it stands in ExecStart= or Environment=; a `$` means something in the former only."""
    text = _escape(word)
    if is_command:
        text = text.replace("$", "$$")
    if text and not any(character in " \t\"'\\;" for character in text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _escape(text: str) -> str:
    return text.replace("%", "%%")
