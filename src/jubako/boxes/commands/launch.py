"""Runs a command in a box: a private copy-on-write view of this whole machine, and what it changed afterwards.

    with run_in_box(["make", "install"]) as result:
        for change in result.changes:
            print(change.kind, change.path)
        result.commit(["/usr/local"])      # or keep(), or nothing: then it is all dropped

The box's directory in the state root is made before and holds what the command writes. It is nobody's, and swept by a
later start, until it is kept; so whatever dies here leaves a directory to be swept and nothing else. What the command
wrote is on disk there whatever `Box.scratch` says: a memory file system would end with the box.
"""

from __future__ import annotations

import os
import time

from jubako.boxes.commands.confine import Confinement
from jubako.boxes.commands.result import BoxResult
from jubako.boxes.commands.supervise import Ended, NotStarted, Program, run_confined
from jubako.boxes.keeping.changes import read_box_changes
from jubako.boxes.keeping.kept import flush_box, make_box, remove_box, sweep_boxes
from jubako.boxes.keeping.kept_record import (
    BoxRecord,
    Layer,
    format_command,
    format_created,
    prepare_record,
    publish_record,
)
from jubako.boxes.nesting import MARK, refuse_nesting
from jubako.boxes.spec import WHOLE_HOST
from jubako.boxes.state import StateRoot, default_state_root
from jubako.boxes.views.bound_files import drop_untouched_files
from jubako.boxes.views.capabilities import choose_capabilities
from jubako.boxes.views.facts import KnownPath, read_known_paths
from jubako.boxes.views.wide_facts import read_wide_facts
from jubako.boxes.views.wide_view import WideView
from jubako.errors import HostError, InputError, JubakoError
from jubako.kernel.capabilities import capability_number, last_capability
from jubako.kernel.mount_table import read_mount_table
from jubako.kernel.overlay import has_lowerdir_plus
from jubako.kernel.seccomp import default_filter
from jubako.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Protocol

    from jubako.boxes.commands.commit import Committed
    from jubako.boxes.spec import Box
    from jubako.boxes.views.bound_files import Copies
    from jubako.boxes.views.plan_wide import Stacked, WidePlan

    class Stack(Protocol):
        """Makes what it stacks below `place`, in the new box's directory, and says where each part belongs."""

        def __call__(self, place: str, *, userxattr: bool) -> Sequence[Stacked]: ...


__all__ = ["run_in_box", "run_in_new_box"]

_TRIES = 5
_SPACE_HINT = "Make room there, or set JUBAKO_STATE to a directory on another local disk."


class _MountsChanged(NotStarted):
    """The machine's mounts are not those the view was planned for any more: one may be gone."""


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
) -> BoxResult:
    """Runs `argv` in a box on this whole machine and waits for it; what it changed is in the result.

    `keep` keeps the box whatever happens to the command. `commit` are paths that are published if the command succeeds;
    if that fails, is interrupted, or finds nothing of what was changed there, the box is kept so that nothing is lost,
    and the error (or its note) names it. `cwd` and `environment` are this
    process's by default, `stdio` are the descriptors the command gets as 0, 1 and 2, `state` is the default state root.

    Raises InputError, HostError and ConflictError; a command that fails is no error, see `exit_status`.
    """
    refuse_nesting()
    where = os.getcwd() if cwd is None else os.path.abspath(cwd)
    root = default_state_root() if state is None else state
    result = run_in_new_box(
        Program(argv, where, dict(os.environ if environment is None else environment), stdio), box, root, keep=keep
    )
    if commit and result.exit_status == 0:
        try:
            result.committed = _commit(result, commit)
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
        error.hint = f"{error.hint} {said}".strip()
    else:
        error.add_note(said)


def run_in_new_box(
    program: Program, box: Box, state: StateRoot, *, keep: bool = False, stack: Stack | None = None
) -> BoxResult:
    """As `run_in_box`, without defaults; `stack` says what lies between this machine and the box's tops.

    With it, what the command changed is not read, since this machine alone is not what it saw.
    """
    _check(program, box)
    sweep_boxes(state.boxes_path)
    for _ in range(_TRIES - 1):
        try:
            return _run_in_new_box(program, box, state, keep=keep, stack=stack)
        except _MountsChanged:
            continue
    return _run_in_new_box(program, box, state, keep=keep, stack=stack)


def _run_in_new_box(program: Program, box: Box, state: StateRoot, *, keep: bool, stack: Stack | None) -> BoxResult:
    started_ns = time.time_ns()
    shared = _find_shared(box)
    try:
        box_id, lock = make_box(state.boxes_path)
    except OSError as error:
        raise HostError(f"no box can be made in {state.boxes_path}: {error.strerror}", hint=_SPACE_HINT) from error
    result: BoxResult | None = None
    try:
        facts = read_wide_facts(_find_hidden(state), program.environment, program.cwd)
        directory = os.path.join(state.boxes_path, box_id)
        stacked = stack(f"{directory}/stacked", userxattr=facts.host.in_user_namespace) if stack else ()
        view = WideView(facts, directory, shared, stacked)
        plan = view.plan()
        record = BoxRecord(
            id=box_id,
            label=format_command(program.argv),
            created=format_created(started_ns),
            cwd=program.cwd,
            layers=tuple(Layer(top.layer_target, top.upper, _inode(top.layer_target)) for top in plan.tops),
            started_ns=started_ns,
        )
        confinement = Confinement(
            user_namespace=facts.host.in_user_namespace,
            network=box.network,
            capabilities=_number_capabilities(choose_capabilities(box, facts.host.uid)),
            held_descriptors=(lock,),
        )
        _warm_up(facts.host.in_user_namespace)
        try:
            copies = _prepare(view, plan, record if keep else None, directory)
            ended = run_confined(_name_box(program, box_id), confinement, lambda: view.make(plan))
        except NotStarted as error:
            if tuple(read_mount_table()) == facts.host.mounts:
                raise
            raise _MountsChanged(error.message, hint=error.hint) from error
        drop_untouched_files(copies)
        result = _make_result(ended, record, state, lock)
        if keep:
            flush_box(directory)
            publish_record(directory)
            result.id = box_id
        if stack is None:
            result.changes = read_box_changes(directory, record)
        return result
    except BaseException:
        if result is not None:
            result.close()
        else:
            remove_box(os.path.join(state.boxes_path, box_id))
            os.close(lock)
        raise


def _prepare(view: WideView, plan: WidePlan, record: BoxRecord | None, directory: str) -> Copies:
    """Makes what the view needs on disk, and with a record what a kept box needs."""
    try:
        copies = view.prepare(plan)
        if record is not None:
            prepare_record(directory, record)
    except OSError as error:
        raise NotStarted(f"no box can be made in {directory}: {error.strerror}", hint=_SPACE_HINT) from error
    except HostError as error:
        raise NotStarted(error.message, hint=error.hint) from error
    return copies


def _name_box(program: Program, box_id: str) -> Program:
    """The program with JUBAKO_BOX in its environment, for prompts and for scripts that must know where they are."""
    return replace(program, environment={**program.environment, MARK: box_id})


def _check(program: Program, box: Box) -> None:
    if not program.argv or not program.argv[0]:
        raise InputError("there is no command to run", hint="For example: jubako box run -- make install")
    if any("\0" in word for word in (*program.argv, *program.environment, *program.environment.values())):
        raise InputError("the command or its environment holds a null byte")
    if not box.base.whole:
        raise InputError(
            "a command runs in the wide view, Box(Host(whole=True)); Box(Host()) is for a pipeline's tasks"
        )


def _find_shared(box: Box) -> tuple[KnownPath, ...]:
    for path in box.cache:
        os.makedirs(path, exist_ok=True)
    paths = (*box.binds, *box.cache, *box.sockets)
    for path in paths:
        if not os.path.exists(path):
            raise InputError(f"{path}, which the box should share, does not exist")
    return read_known_paths(paths)


def _inode(path: str) -> int:
    return os.stat(path).st_ino if os.path.isdir(path) else 0


def _find_hidden(state: StateRoot) -> list[str]:
    """jubako's own directories: the state root, and where living runs stage outputs on other mounts."""
    hidden = [state.path]
    if os.listdir(state.stage_path):
        from contextlib import closing

        from jubako.boxes.transactions.journal import (  # SQLite: 10 ms to import, for living runs alone
            Journal,
            open_database,
        )

        with closing(open_database(state.ledger_path, durability="relaxed")) as connection:
            hidden += Journal(connection).hidden_folders()
    return hidden


def _number_capabilities(names: Sequence[str]) -> frozenset[int]:
    try:
        return frozenset(capability_number(name) for name in names)
    except ValueError as error:
        raise InputError(str(error), hint="They are named as in capabilities(7), for example CAP_NET_RAW.") from error


def _warm_up(user_namespace: bool) -> None:
    """Computes here what a child would have to compute anew for every box (0.5 ms for the filter)."""
    default_filter()
    if not user_namespace:
        last_capability()
        has_lowerdir_plus()


def _make_result(ended: Ended, record: BoxRecord, state: StateRoot, lock: int) -> BoxResult:
    return BoxResult(
        exit_status=ended.exit_status,
        changes=(),
        error=ended.error,
        notes=ended.notes,
        state=state,
        record=record,
        _lock=lock,
    )
