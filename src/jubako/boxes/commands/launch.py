"""Runs a command in a box: a private copy-on-write view of this whole machine, and what it changed afterwards.

    with run_in_box(["make", "install"]) as result:
        for change in result.changes:
            print(change.kind, change.path)
        result.commit(["/usr/local"])      # or keep(), or nothing: then it is all dropped

How a box is made is said in `make`, how a command is shut in in `supervise` and `confine`.
"""

from __future__ import annotations

import os
import time

from jubako.boxes.commands.first import Program
from jubako.boxes.commands.make import NewBox, make_new_box, read_box_facts, try_anew
from jubako.boxes.commands.result import BoxResult, LockHold
from jubako.boxes.commands.shortage import explained
from jubako.boxes.commands.supervise import run_confined
from jubako.boxes.keeping.changes import read_box_changes
from jubako.boxes.keeping.kept import flush_box, sweep_boxes
from jubako.boxes.keeping.kept_record import publish_record
from jubako.boxes.nesting import MARK, refuse_nesting
from jubako.boxes.profiles import get_profile
from jubako.boxes.spec import WHOLE_HOST
from jubako.boxes.state import StateRoot, default_state_root
from jubako.boxes.views.bound_files import drop_untouched_files
from jubako.errors import InputError, JubakoError
from jubako.layers.remove import remove_tree
from jubako.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from jubako.boxes.commands.commit import Committed
    from jubako.boxes.commands.make import Stack
    from jubako.boxes.commands.supervise import Ended, Watching
    from jubako.boxes.keeping.kept_record import BoxRecord
    from jubako.boxes.spec import Box
    from jubako.boxes.views.plan_wide import WideFacts

    # Told the box's directory and its record; the record of what it holds from then on.
    Settle: TypeAlias = Callable[[str, BoxRecord], BoxRecord]

__all__ = [
    "check_keeping",
    "check_program",
    "commit_or_keep",
    "fit_program",
    "run_in",
    "run_in_box",
    "run_in_new_box",
    "take_secrets",
]


def run_in_box(
    argv: Sequence[str],
    box: Box = WHOLE_HOST,
    *,
    keep: bool = False,
    commit: Sequence[str] = (),
    cwd: str | None = None,
    environment: Mapping[str, str] | None = None,
    stdio: tuple[int, int, int] = (0, 1, 2),
    state: StateRoot | None = None,
    adapt: Callable[[Program], Program] = lambda program: program,
) -> BoxResult:
    """Runs `argv` in a box on this whole machine and waits for it; what it changed is in the result.

    `keep` keeps the box whatever happens to the command. `commit` are paths that are published if the command succeeds;
    if that fails, is interrupted, or finds nothing of what was changed there, the box is kept so that nothing is lost,
    and the error (or its note) names it. `cwd` and `environment` are this
    process's by default, `stdio` are the descriptors the command gets as 0, 1 and 2, `state` is the default state root,
    `adapt` has a last word about the program.

    Raises InputError, HostError and ConflictError; a command that fails is no error, see `exit_status`.
    """
    refuse_nesting()
    where = os.getcwd() if cwd is None else os.path.abspath(cwd)
    root = default_state_root() if state is None else state
    program = Program(argv, where, dict(os.environ if environment is None else environment), stdio)
    if keep or commit:
        check_keeping(box)
    result = run_in_new_box(adapt(program), box, root, keep=keep)
    return commit_or_keep(result, commit)


def commit_or_keep(result: BoxResult, paths: Sequence[str]) -> BoxResult:
    """Commits `paths`, if any, of a command that succeeded. If that fails the box is kept, and the error says so."""
    if paths and result.exit_status == 0:
        try:
            result.committed = _commit(result, paths)
        except BaseException as error:
            _keep_after(error, result)
            raise
    return result


def _commit(result: BoxResult, paths: Sequence[str]) -> Committed:
    """Commits `paths`, which are not all beside what was changed: that is a typing mistake, and the work is done."""
    committed = result.commit(paths)
    if not committed.plan.published and result.changes:
        raise InputError(f"the command changed nothing at or below {', '.join(paths)}")
    return committed


def _keep_after(error: BaseException, result: BoxResult) -> None:
    """Keeps the box, whose commit ended with `error`, and has that say so."""
    try:
        said = f"The box is kept: 'jubako box changes {result.keep()}'."
    finally:
        result.close()
    if isinstance(error, JubakoError):
        error.hint = f"{error.hint.rstrip('.')}. {said}" if error.hint else said
    else:
        error.add_note(said)


def run_in_new_box(
    program: Program,
    box: Box,
    state: StateRoot,
    *,
    keep: bool = False,
    stack: Stack | None = None,
    settle: Settle | None = None,
) -> BoxResult:
    """As `run_in_box`, without defaults; `stack` says what lies between this machine and the box's tops.

    With it, what the command changed is not read, since this machine alone is not what it saw; unless `settle`, called
    when the command has ended, brings all of it into the box.
    """
    check_program(program, box)
    box, program = take_secrets(box, fit_program(program, box))
    if stack is not None and settle is None:
        settle = _leave_unread

    def read_facts() -> WideFacts:
        return read_box_facts(state, program.environment, program.cwd)

    def attempt(facts: WideFacts) -> BoxResult:
        started_ns = time.time_ns()
        new = make_new_box(box, state, facts, stack)
        try:
            return _run_to_end(new, program, started_ns, state, keep=keep, settle=settle)
        except BaseException:
            new.abandon()
            raise

    with explained("no box can be made"):
        sweep_boxes(state.boxes_path)
        return try_anew(attempt, read_facts(), read_facts)


def _run_to_end(
    new: NewBox, program: Program, started_ns: int, state: StateRoot, *, keep: bool, settle: Settle | None
) -> BoxResult:
    record = new.describe(program.argv, program.cwd, started_ns)
    if keep:
        new.prepare_record(record)
    new.note_running(record)
    ended = run_in(new, _name_box(program, new.id))
    with explained("what the command changed cannot be read"):
        drop_untouched_files(new.copies)
        if settle is not None and settle is not _leave_unread:
            record = settle(new.directory, record)
            remove_tree(f"{new.directory}/stacked")
            if keep:
                new.prepare_record(record)
        if keep:
            flush_box(new.directory)
            publish_record(new.directory)
        changes = () if settle is _leave_unread else read_box_changes(new.directory, record)
    limited = new.limited
    return BoxResult(
        exit_status=ended.exit_status,
        changes=changes,
        error=ended.error,
        notes=(*ended.notes, *(limited.plan.notes if limited else ())),
        exceeded=limited.describe(ended) if limited else (),
        usage=limited.measure(ended) if limited else None,
        id=new.id if keep else None,
        state=state,
        record=record,
        hold=LockHold(new.lock),
    )


def _leave_unread(_directory: str, record: BoxRecord) -> BoxRecord:
    """Stands for: what the command saw is not this machine, so that its changes are not changes of that."""
    return record


def run_in(
    new: NewBox,
    program: Program,
    tell: Callable[[Sequence[str]], None] | None = None,
    *,
    watch: Callable[[Watching | None], Watching | None] = lambda own: own,
) -> Ended:
    """Runs `program` in a box that was made, within its limits, and waits for it. `tell` gets the notes early, `watch`
    what watches over the limits, and says what is to watch."""

    def make_view() -> Sequence[str]:
        notes = new.view.make(new.plan)
        if tell is not None:
            tell(notes)
        return notes

    if new.limited is None:
        return run_confined(program, new.confinement, make_view, watch(None))
    with new.limited as limited:
        confinement = replace(new.confinement, restraint=limited.restraint)
        return run_confined(program, confinement, make_view, watch(limited.watch))


def _name_box(program: Program, box_id: str) -> Program:
    """The program with JUBAKO_BOX in its environment, for prompts and for scripts that must know where they are."""
    return replace(program, environment={**program.environment, MARK: box_id})


def fit_program(program: Program, box: Box) -> Program:
    """The program as `box` says that it is started. InputError for a user that cannot be."""
    if not box.environment and not box.cwd and not box.user:
        return program
    user = None
    environment = dict(program.environment)
    if box.user:
        from jubako.boxes.commands.become import find_identity  # for boxes with a user

        user = find_identity(box.user)
        environment |= dict(user.environment)
    environment |= dict(box.environment)
    return replace(program, environment=environment, cwd=box.cwd or program.cwd, user=user)


def take_secrets(box: Box, program: Program) -> tuple[Box, Program]:
    """The box with its secrets by value, and the program without the variables they were in. InputError."""
    if not box.secrets:
        return box, program
    taken = {secret.variable for secret in box.secrets}
    environment = {name: value for name, value in program.environment.items() if name not in taken}
    secrets = [secret.resolve(program.environment) for secret in box.secrets]
    return replace(box, secrets=secrets), replace(program, environment=environment)


def check_keeping(box: Box) -> None:
    """Raises InputError where nothing of a box could be kept or committed."""
    if get_profile(box.profile).is_sealed:
        raise InputError(
            f"a box of profile {box.profile!r} holds nothing that could be kept or committed",
            hint="Share a directory with it for what it is to leave behind: --bind DIR, or Box(binds=[DIR]).",
        )


def check_program(program: Program, box: Box) -> None:
    """Raises InputError where `program` or `box` is such that no command can run."""
    if not program.argv or not program.argv[0]:
        raise InputError("there is no command to run", hint="For example: jubako box run -- make install")
    if any("\0" in word for word in (*program.argv, *program.environment, *program.environment.values())):
        raise InputError("the command or its environment holds a null byte")
    if not box.base.whole:
        raise InputError(
            "a command runs in the wide view, Box(Host(whole=True)); Box(Host()) is for a pipeline's tasks"
        )
