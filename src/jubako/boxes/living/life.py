"""Makes living boxes, starts them again, and ends them.

A box is made whole (directory, name, living.json, box.json) before it is started; one whose first start fails is
removed. Started again it gets the same tops, over this machine as it is then.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from jubako.boxes.commands.first import Program
from jubako.boxes.commands.launch import fit_program
from jubako.boxes.commands.make import find_shared, make_new_box, plan_box, read_box_facts, try_anew
from jubako.boxes.commands.shortage import explained
from jubako.boxes.keeping.kept import lock_box, remove_box, sweep_boxes
from jubako.boxes.keeping.kept_record import format_command, save_record
from jubako.boxes.living import control
from jubako.boxes.living.keeper import Start, open_log, start_box
from jubako.boxes.living.living_record import LivingRecord, SavedTop, read_living, save_living
from jubako.boxes.living.names import claim_name, release_name, validate_name
from jubako.boxes.living.origins import Origins, copy_origin, stack_directories
from jubako.boxes.living.spawning import Order
from jubako.boxes.nesting import MARK, refuse_nesting
from jubako.boxes.profiles import get_profile
from jubako.boxes.views.bound_files import drop_untouched_files
from jubako.boxes.views.wide_view import WideView
from jubako.errors import ConflictError, InputError
from jubako.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jubako.boxes.commands.make import NewBox
    from jubako.boxes.keeping.kept_record import BoxRecord
    from jubako.boxes.living.control import Line
    from jubako.boxes.living.find import Found
    from jubako.boxes.living.server import Lasting
    from jubako.boxes.spec import Box
    from jubako.boxes.state import StateRoot
    from jubako.boxes.views.plan_wide import WideFacts

__all__ = ["lock_again", "make_living", "read_umask", "remove_living", "start_living", "stop_living"]

_PAUSE_S = 0.005
_ERRAND_S = 1.0
_LOCKED_S = 10.0  # a box that has answered its last question is let go of within that


def make_living(
    state: StateRoot,
    box: Box,
    name: str,
    argv: Sequence[str],
    *,
    origins: Origins,
    environment: Mapping[str, str],
    cwd: str,
) -> tuple[str, tuple[str, ...]]:
    """Makes a box and starts it; its id, and what this machine did not allow, in words.

    `argv` is its main command (none: it lives until it is stopped); `name` "" is for one to be made up. Raises
    ConflictError if there is a box of that name, CommandNotStarted if the command cannot be executed. Nothing is left
    of a box that could not be started.
    """
    refuse_nesting()
    if name:
        validate_name(name)
    if (argv and not argv[0]) or any("\0" in word for word in argv):
        raise InputError("the command is empty or holds a null byte")
    _check_profile(box, origins)
    sweep_boxes(state.boxes_path)

    def read_facts() -> WideFacts:
        return replace(read_box_facts(state, environment, cwd), terminal="")  # whose it is, is not in the box

    def attempt(facts: WideFacts) -> tuple[str, tuple[str, ...]]:
        new = make_new_box(box, state, facts, volatile=False)
        try:
            living, new = _record_new(state, new, box, name, argv, cwd, origins)
            start = Start(new, living, _order(living, new.id, environment, cwd), "command" if argv else "stopped")
        except BaseException:
            _drop_new(state, new.directory, new.id)
            os.close(new.lock)
            raise
        try:
            line, notes = start_box(start)
        except BaseException:
            with lock_again(new.directory, is_ending=True):
                _drop_new(state, new.directory, new.id)
            raise
        line.close()
        return new.id, notes

    return try_anew(attempt, read_facts(), read_facts)


def _check_profile(box: Box, origins: Origins) -> None:
    """Raises InputError for what a box that lives cannot be or have."""
    profile = get_profile(box.profile)
    if profile.is_first:
        raise InputError(
            f"a box that lives has a first process of jubako's own, and cannot be of profile {box.profile!r}",
            hint="'jubako box run --profile system -- /sbin/init' is for an init.",
        )
    if profile.is_sealed and (origins.box is not None or origins.directories):
        raise InputError(
            f"profile {box.profile!r} shows nothing of what a box holds, and contradicts what it begins with"
        )
    if passing := [secret.name for secret in box.secrets if not secret.is_lasting]:
        raise InputError(
            f"secrets of a box that lives come from files, since it is started again: {', '.join(passing)}"
        )


def start_living(
    found: Found, state: StateRoot, *, environment: Mapping[str, str], lasting: Lasting = "command"
) -> tuple[Line, tuple[str, ...]]:
    """Starts a box that doesn't run, with its main command, or for the sake of errands without it.

    A connection to it, and what this machine did not allow. ConflictError if somebody is at it now.
    """
    refuse_nesting()
    lock = _lock_stopped(found)
    try:
        living = read_living(found.directory) or found.living
        drop_untouched_files(living.copies)  # of a box that was killed
        _sweep_groups(found.directory)
        facts = replace(read_box_facts(state, environment, found.record.cwd), terminal="")
        stacked = stack_directories(living.layers, facts, found.directory)
        places = {top.target: top.place for top in living.tops}
        shared = find_shared(living.box)
        view = WideView(facts, found.directory, shared, stacked, places, volatile=False)
        made = plan_box(living.box, view, lock)
        record = _add_layers(found.record, made)
        if record != found.record:
            save_record(found.directory, record)
        living = replace(living, tops=_saved_tops(made, living.tops))
        order = None if lasting == "errands" else _order(living, found.id, environment, found.record.cwd)
        how_long: Lasting = lasting if order or lasting == "errands" else "stopped"
    except BaseException:
        os.close(lock)
        raise
    return start_box(Start(made, living, order, how_long))


def stop_living(found: Found, *, grace_s: float) -> bool:
    """Ends the box and waits until nothing of it is left; False if it didn't run.

    Its main command gets SIGTERM (everything in it, where it has none) and `grace_s` seconds; then all is killed.
    """
    line = control.connect(found.directory)
    if line is None:
        return False
    with line:
        with suppress(control.Gone):  # it has ended by itself
            line.ask("stop", grace_s=grace_s)
        line.wait_for_end()
    os.close(_lock(found.directory, is_ending=True))
    return True


def remove_living(found: Found, state: StateRoot, *, force: bool = False) -> None:
    """Removes the box and all it holds. A box that runs is stopped first if `force`, else that is a ConflictError."""
    if force:
        stop_living(found, grace_s=0.0)
    elif found.is_running:
        raise ConflictError(
            f"box {found.name} is running",
            hint=f"'jubako box stop {found.name}' first, or 'jubako box rm --force {found.name}'.",
        )
    with lock_again(found.directory, is_ending=force):
        release_name(state.boxes_path, found.name, found.id)
        _sweep_groups(found.directory)
        remove_box(found.directory)


class lock_again:
    """Holds a box that somebody may just be letting go of, for the time of a `with` block."""

    def __init__(self, directory: str, *, is_ending: bool = False) -> None:
        self._directory = directory
        self._is_ending = is_ending

    def __enter__(self) -> int:
        self._fd = _lock(self._directory, is_ending=self._is_ending)
        return self._fd

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)


def _lock_stopped(found: Found) -> int:
    """Locks the box to start it. ConflictError if it runs already, or what was started in it alone does not end."""
    deadline = time.monotonic() + _LOCKED_S
    while True:
        try:
            return lock_box(found.directory, exclusive=True)
        except ConflictError as error:
            if not control.is_running(found.directory):
                if time.monotonic() > deadline:
                    raise
            else:
                living = read_living(found.directory)
                if living is not None and living.phase == "running":
                    raise ConflictError(f"box {found.name} runs already") from error
                if time.monotonic() > deadline - _LOCKED_S + _ERRAND_S:
                    raise ConflictError(
                        f"something that was started in box {found.name} alone has not ended",
                        hint=f"'jubako box ps {found.name}' shows it; 'jubako box stop {found.name}' ends it.",
                    ) from error
        time.sleep(_PAUSE_S)


def _lock(directory: str, *, is_ending: bool = False) -> int:
    """Locks the box, which its keeper may be about to let go of, or somebody may be looking at."""
    deadline = time.monotonic() + _LOCKED_S
    while True:
        try:
            return lock_box(directory, exclusive=True)
        except ConflictError:
            if time.monotonic() > deadline or (not is_ending and control.is_running(directory)):
                raise
        time.sleep(_PAUSE_S)


def _sweep_groups(directory: str) -> None:
    """Removes the control groups that a killed keeper could not."""
    groups = os.path.join(directory, "groups")
    if os.path.exists(groups):
        from jubako.boxes.resources.groups import sweep_groups  # a module, for boxes that had limits and were killed

        if not sweep_groups(groups):
            raise ConflictError(f"something of box {os.path.basename(directory)} still runs", hint="Try again.")


# --- records ---------------------------------------------------------------------------------------------------------


def _record_new(
    state: StateRoot, new: NewBox, box: Box, name: str, argv: Sequence[str], cwd: str, origins: Origins
) -> tuple[LivingRecord, NewBox]:
    """Gives a box that is made its name, its records, and what it begins with; the box, planned with that."""
    started_ns = time.time_ns()
    tops = _saved_tops(new, ())
    record = replace(new.describe(argv or ("(nothing)",), cwd, started_ns), label=format_command(argv))
    stacked = stack_directories(origins.directories, new.facts, new.directory)
    if origins.box is not None:
        tops, record = copy_origin(origins.box, new.directory, tops, record)
    places = {top.target: top.place for top in tops}
    view = replace(new.view, stacked=stacked, places=places)
    again = plan_box(box, view, new.lock)
    again = replace(again, copies={**new.copies, **again.copies})
    tops = _saved_tops(again, tops)
    record = _add_layers(record, again)
    name = claim_name(state.boxes_path, name, new.id)
    living = LivingRecord(name, box, tuple(argv), origins.directories, tops)
    with explained(f"box {name} cannot be made"):
        save_living(new.directory, living)
        save_record(new.directory, record)
        os.close(open_log(new.directory))
    return living, again


def _drop_new(state: StateRoot, directory: str, box_id: str) -> None:
    living = read_living(directory)
    if living is not None:
        release_name(state.boxes_path, living.name, box_id)
    remove_box(directory)


def _saved_tops(made: NewBox, before: tuple[SavedTop, ...]) -> tuple[SavedTop, ...]:
    """The tops of the plan, and those the box had before, of targets that this machine has not now."""
    planned = [SavedTop(top.target, top.upper.partition("/")[0], top.is_file) for top in made.plan.tops]
    targets = {top.target for top in planned}
    return (*planned, *(top for top in before if top.target not in targets))


def _add_layers(record: BoxRecord, made: NewBox) -> BoxRecord:
    """The record with a layer for each top of the plan; what it says already of one stays."""
    known = {layer.upper for layer in record.layers}
    planned = made.describe(("",), record.cwd, record.started_ns).layers
    return replace(record, layers=(*record.layers, *(layer for layer in planned if layer.upper not in known)))


def _order(living: LivingRecord, box_id: str, environment: Mapping[str, str], cwd: str) -> Order | None:
    if not living.argv:
        return None
    program = fit_program(Program(living.argv, cwd, environment), living.box)
    return Order(living.argv, {**program.environment, MARK: box_id}, program.cwd, read_umask(), program.user)


def read_umask() -> int:
    """This process's umask, which a program in a box is started with, too."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
