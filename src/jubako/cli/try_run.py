"""What `jubako try` takes and does: run a command, show what it did, ask what is to become of it. Needs no click.

The box is kept from the moment the command has ended until the answer is carried out, so that a Ctrl-C, a closed
terminal or a full disk loses nothing. The command owns stdout and its exit code; what we say goes to stderr.
"""

from __future__ import annotations

import os
import sys

from jubako.boxes.commands.on_boxes import Ground, run_on_boxes
from jubako.boxes.state import default_state_root
from jubako.cli.box_options import BOX_OPTIONS, box_of
from jubako.cli.box_report import echo_committed, echo_notes, echo_summary
from jubako.cli.line import Option
from jubako.cli.terminal import echo, printable
from jubako.errors import InputError
from jubako.records import field, record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from jubako.boxes.commands.result import BoxResult
    from jubako.boxes.keeping.kept_record import BoxRecord
    from jubako.layers.change import Change

__all__ = ["OPTIONS", "OPTIONS_OF_BOX", "VERBS", "Choice", "choice_of", "run_try", "show_box", "try_command"]

VERBS = ("summary", "commit", "explore")  # what stands in the place of CMD


def _several(names: tuple[str, ...], parameter: str, metavar: str, help_: str) -> Option:
    return Option(names, parameter, help_, takes="values", default=(), metavar=metavar)


PATTERN_OPTIONS = (
    _several(("-E",), "excluded", "REGEX", "Neither show nor commit paths that match; may be repeated."),
    _several(("-I",), "included", "REGEX", "Show and commit paths that match, and no others."),
)
# Of a box's options those that go with trying something out; `jubako box run` has them all.
_BOX_OPTIONS = tuple(
    option for option in BOX_OPTIONS if option.parameter in ("network", "no_network", "binds", "tmpfs", "settings")
)
OPTIONS = (
    Option(("-n",), "never", "Ask nothing: keep the box, and print its id."),
    Option(("-y",), "always", "Ask nothing: commit if CMD succeeds."),
    Option(("-x",), "cut_off", "No network but loopback."),
    _several(("-i",), "hide", "PATH", "Have CMD not see PATH."),
    *PATTERN_OPTIONS,
    Option(
        ("-N", "-D"), "name", "Run in the box called DIR, and keep it.", takes="value", default=None, metavar="DIR"
    ),
    _several(("-L",), "lowers", "BOX[:BOX]...", "Run on top of what these boxes hold, the topmost first."),
    *_BOX_OPTIONS,
    Option(("-t",), "trace", "Not here: trace the whole of it, strace -f -o FILE jubako try CMD.", takes="value",
           default=None, metavar="FILE"),
    Option(("-U",), "helper", "Not here: nothing needs a union helper.", takes="value", default=None, metavar="PATH"),
)  # fmt: skip
OPTIONS_OF_BOX = tuple(option.parameter for option in _BOX_OPTIONS)
_ANSWERS = {
    **dict.fromkeys(("y", "yes", "c", "commit"), "commit"),
    **dict.fromkeys(("d", "discard"), "discard"),
    **dict.fromkeys(("", "n", "no", "k", "keep"), "keep"),
    **dict.fromkeys(("s", "show", "more"), "show"),
}
_SHELL_MARKS = frozenset(" \t\n|&;<>()$`\"'*?")


@record
class Choice:
    """Which of the changes are shown and committed, by the patterns of -E and -I."""

    excluded: Sequence[str] = ()
    included: Sequence[str] = ()
    _compiled: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import re  # 3 ms to import, for patterns alone

        for pattern in (*self.excluded, *self.included):
            try:
                self._compiled[pattern] = re.compile(pattern)
            except re.error as error:
                raise InputError(
                    f"{pattern!r} is no regular expression: {error}", hint="They are Python's; '.' is '\\.'."
                ) from error

    def leaves_out(self, change: Change) -> bool:
        """True for what stays in the box."""
        if any(self._compiled[pattern].search(change.path) for pattern in self.excluded):
            return True
        return bool(self.included) and not any(self._compiled[p].search(change.path) for p in self.included)


def choice_of(excluded: Sequence[str], included: Sequence[str]) -> Choice | None:
    """The choice that the patterns make; None without any."""
    return Choice(excluded, included) if excluded or included else None


def run_try(
    command: Sequence[str],
    *,
    never: bool,
    always: bool,
    cut_off: bool,
    hide: Sequence[str],
    excluded: Sequence[str],
    included: Sequence[str],
    name: str | None,
    lowers: Sequence[str],
    trace: str | None,
    helper: str | None,
    **box_options: Any,
) -> int:
    """Runs the command in a box and does with it what the options or the user say; the command's exit code."""
    _refuse(trace, helper, never=never, always=always)
    choice = choice_of(excluded, included)
    box = box_of(**box_options)
    if cut_off:
        box = replace(box, network="none")
    return try_command(
        _split(command),
        lambda argv: run_on_boxes(argv, box, ground=_ground_of(name, lowers, hide), keep=True),
        name=name,
        choice=choice,
        decide="keep" if never or (name is not None and not always) else "commit" if always else "ask",
        print_id=never and name is None,
    )


def try_command(
    argv: Sequence[str],
    run: Callable[[Sequence[str]], BoxResult],
    *,
    name: str | None,
    choice: Choice | None,
    decide: str,
    print_id: bool = False,
) -> int:
    """Runs `argv` with `run`, which keeps the box, and sees to what becomes of it."""
    state = default_state_root()
    if name is not None:
        from jubako.boxes.commands.named_box import check_name, name_box  # for names alone

        check_name(state, name)
    with run(argv) as result:
        if name is not None and result.id is not None:
            name_box(state, name, result.id)
        echo_notes(result.notes)
        if result.error:
            echo(f"Error: {printable(result.error)}", err=True)
        shown = [change for change in result.changes if choice is None or not choice.leaves_out(change)]
        _show(result, shown, everything=False)
        if result.exit_status:
            echo(f"The command ended with status {result.exit_status}.", err=True)
        if not result.changes and name is None:
            result.discard()
            return result.exit_status
        if decide == "ask":
            decide = _ask(result, shown) if shown and _is_terminal() else "keep"
        elif decide == "commit" and result.exit_status:
            echo("Nothing was committed, since the command failed.", err=True)
            decide = "keep"
        _carry_out(result, decide, choice, name)
        if result.id is not None:
            _tell_kept(result, name, print_id=print_id)
        elif name is not None:
            from jubako.boxes.commands.named_box import drop_name

            drop_name(state, name)
        return result.exit_status


def _carry_out(result: BoxResult, decision: str, choice: Choice | None, name: str | None) -> None:
    """Commits or discards the box, or leaves it kept. What the patterns left out goes with a box that has no name."""
    if decision == "discard":
        result.discard()
        echo("Discarded.", err=True)
    elif decision == "commit":
        _commit(result, choice)
        left = result.changes
        if choice is not None and name is None:
            left = tuple(change for change in left if not choice.leaves_out(change))
        if not left:
            result.discard()


def _refuse(trace: str | None, helper: str | None, *, never: bool, always: bool) -> None:
    if trace is not None:
        raise InputError(
            "jubako try has no -t: nothing can be traced from inside a box",
            hint=f"Trace it from outside: strace -f -o {trace} jubako try CMD",
        )
    if helper is not None:
        raise InputError(
            "jubako try has no -U: it needs no mergerfs or unionfs",
            hint="As root it covers every file system; 'jubako box run -- true' says what it covers without root.",
        )
    if never and always:
        raise InputError("-n and -y contradict each other", hint="-n keeps the changes, -y commits them.")


def _split(command: Sequence[str]) -> Sequence[str]:
    """The words of the command; one that can only be a line for a shell is given to one."""
    if len(command) == 1 and not _SHELL_MARKS.isdisjoint(command[0]) and not os.path.exists(command[0]):
        return ("/bin/sh", "-c", command[0])
    return command


def _ground_of(name: str | None, lowers: Sequence[str], hide: Sequence[str]) -> Ground:
    """What the box stands on: the box that has the name already, and those of -L."""
    from jubako.boxes.commands.named_box import find_named

    state = default_state_root()
    below = [find_named(state, one) or one for group in lowers for one in group.split(":")]
    if "" in below:
        raise InputError("-L names a box that is empty text", hint="Boxes are separated by one colon: -L 3f9c:77b0")
    own = find_named(state, name) if name is not None else None
    return Ground((own, *below) if own else below, hide, replaced=own is not None)


def _ask(result: BoxResult, shown: Sequence[Change]) -> str:
    """The user's answer: commit, discard or keep. Nothing is lost by a Ctrl-C, which says so."""
    try:
        while True:
            echo("Commit these changes? [y]es, [d]iscard, [s]how more, [k]eep (default): ", err=True, end="")
            line = sys.stdin.readline()
            answer = _ANSWERS.get(line.strip().lower())
            if not line:
                echo("", err=True)
            if answer == "show":
                _show(result, shown, everything=True)
            elif answer is not None:
                return answer
            else:
                echo(f"{printable(line.strip())!r} is no answer.", err=True)
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(f"Kept as {result.id}: jubako try summary {result.id}")
        raise


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _show(result: BoxResult, shown: Sequence[Change], *, everything: bool) -> None:
    show_box(result.directory, result.record, shown, everything=everything, err=True)


def show_box(
    directory: str, box: BoxRecord, shown: Sequence[Change], *, everything: bool, err: bool
) -> None:  # fmt: skip
    """Prints what a box did: the changes `shown`."""
    if shown:
        from jubako.boxes.commands.box_files import BoxFiles
        from jubako.cli.try_report import show_changes, show_diffs

        show_changes(shown, everything=everything, err=err)
        show_diffs(shown, BoxFiles(directory, box), everything=everything, err=err)
    echo_summary(shown)


def _commit(result: BoxResult, choice: Choice | None) -> None:
    without = frozenset(c.path for c in result.changes if choice is not None and choice.leaves_out(c))
    try:
        committed = result.commit(without=without)
    except BaseException as error:
        said = f"The box is kept: 'jubako try summary {result.id}'."
        if hasattr(error, "hint"):
            error.hint = f"{error.hint} {said}".strip()
        else:
            error.add_note(said)
        raise
    echo_committed(committed, ())


def _tell_kept(result: BoxResult, name: str | None, *, print_id: bool) -> None:
    called = result.id if name is None else name
    echo(
        f"Kept as {called}. Go on with: jubako try summary {called}, commit {called}, explore {called}; "
        f"jubako box rm {result.id}",
        err=True,
    )
    if print_id:
        echo(str(result.id))
