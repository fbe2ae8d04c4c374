"""`jubako notify test PIPELINE`: sends a trial message by every hook that would be told of a run of the pipeline."""

from __future__ import annotations

import click

from jubako.cli.declare import format_option
from jubako.cli.document import Document, Format
from jubako.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED
from jubako.cli.formats import echo_document
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jubako.flow.notices.hooks import Hook

__all__ = ["notify"]

_COLUMNS = ("hook", "goes_to", "on", "result", "seconds")

_EPILOG = """\b
Examples:
  jubako notify test examples/nightly
  jubako notify test examples/nightly --hook on-call --format json"""


@click.group(epilog=_EPILOG)
def notify() -> None:
    """Who is told how runs end: the hooks of the jubako.toml beside a pipeline."""


@notify.command(epilog=_EPILOG)
@click.argument("pipeline")
@click.option("--config", metavar="FILE", help="Settings other than the pipeline's jubako.toml.")
@click.option("--hook", "names", metavar="NAME", multiple=True, help="Only this one; may be given several times.")
@format_option
def test(pipeline: str, config: str | None, names: Sequence[str], format_: Format) -> int:
    """Send a trial message by every hook of PIPELINE, whatever it is for, and say what came of it.

    Exit code 0: all have got through.
    """
    from jubako.cli.run_options import find_settings
    from jubako.flow.clock import SystemClock
    from jubako.flow.interrupts import Interrupts
    from jubako.flow.loader import find_pipeline_file
    from jubako.flow.reporting import About, open_notifier

    file = find_pipeline_file(pipeline)
    settings = find_settings(file, config)
    if settings is None or not settings.notify:
        raise InputError(
            f"nobody is told of runs of {file}",
            hint="[[notify]] in a jubako.toml beside it says who is: docs/notifications.md",
        )
    notifier = open_notifier(_choose(settings.notify, names), About(file, "a trial"), SystemClock())
    with Interrupts(lambda: False) as interrupts:
        ended = notifier.try_out(interrupts)
    rows = [
        {
            "hook": each.hook.name,
            "goes_to": each.hook.target,
            "on": list(each.hook.on),
            "result": each.problem or "delivered",
            "seconds": round(each.wall_s, 2),
        }
        for each in ended
    ]
    echo_document(Document("jubako.notify.test/1", _COLUMNS, rows, {}, "hooks"), format_)
    if interrupts.count:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if any(each.problem for each in ended) else 0


def _choose(hooks: Sequence[Hook], names: Sequence[str]) -> Sequence[Hook]:
    """The hooks of these names, or all. They keep the names that a run would give them."""
    from jubako.flow.notices.notifier import name_hook

    named = [name_hook(hook, number) for number, hook in enumerate(hooks, start=1)]
    known = [hook.name for hook in named]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"there is no hook {' nor '.join(map(repr, unknown))}", hint=f"there is {', '.join(known)}")
    return [hook for hook in named if not names or hook.name in names]
