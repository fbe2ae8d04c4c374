"""Makes a box: its directory in the state root, and the plan of what will be seen in it. Nothing is mounted yet.

The directory is held (`keeping.kept`) and holds what the command will write. It is nobody's, and swept by a later
start, until it is kept; so whatever dies from here on leaves a directory to be swept and nothing else. What the command
writes is on disk there whatever `Box.scratch` says: a memory file system would end with the box.
"""

from __future__ import annotations

import os

from jubako.boxes.commands.confine import Confinement, NotStarted, compile_profile
from jubako.boxes.commands.running import note_running
from jubako.boxes.commands.shortage import find_cure
from jubako.boxes.keeping.kept import make_box, remove_box
from jubako.boxes.keeping.kept_record import (
    BoxRecord,
    Layer,
    format_command,
    format_created,
    is_kept_box,
    prepare_record,
)
from jubako.boxes.profiles import get_profile
from jubako.boxes.views.capabilities import choose_capabilities
from jubako.boxes.views.facts import SOCKET_VARIABLES, KnownPath, read_known_paths
from jubako.boxes.views.wide_facts import read_wide_facts
from jubako.boxes.views.wide_view import WideView
from jubako.errors import HostError, InputError
from jubako.kernel.capabilities import capability_number, last_capability
from jubako.kernel.mount_table import read_mount_table
from jubako.kernel.overlay import has_lowerdir_plus
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Protocol, TypeVar

    from jubako.boxes.commands.limited import Limited
    from jubako.boxes.networks.carrier import Carrier
    from jubako.boxes.profiles import Profile
    from jubako.boxes.spec import Box
    from jubako.boxes.state import StateRoot
    from jubako.boxes.views.bound_files import Copies
    from jubako.boxes.views.plan_wide import Stacked, WideFacts, WidePlan

    Made = TypeVar("Made")

    class Stack(Protocol):
        """Makes what it stacks below `place`, in the new box's directory, and says where each part belongs. `targets`
        are the directories that the box would make copy-on-write by itself."""

        def __call__(self, place: str, *, userxattr: bool, targets: Sequence[str]) -> Sequence[Stacked]: ...


__all__ = [
    "FACT_VARIABLES",
    "NewBox",
    "find_shared",
    "make_new_box",
    "plan_box",
    "read_box_facts",
    "try_anew",
]

_TRIES = 5

FACT_VARIABLES = ("HOME", "TMPDIR", *SOCKET_VARIABLES)  # all of the environment that `read_box_facts` looks at


@record
class NewBox:
    """A box that is made and planned. `lock` holds its directory; whoever has it removes the directory or keeps it."""

    id: str
    directory: str
    lock: int
    facts: WideFacts  # what its plan is made from
    view: WideView
    plan: WidePlan
    confinement: Confinement
    copies: Copies
    limited: Limited | None  # what keeps it to its limits

    def describe(self, argv: Sequence[str], cwd: str, started_ns: int) -> BoxRecord:
        """What there is to say of it when `argv` is started in it."""
        return BoxRecord(
            id=self.id,
            label=format_command(argv),
            created=format_created(started_ns),
            cwd=cwd,
            layers=tuple(Layer(top.layer_target, top.upper, _inode(top.layer_target)) for top in self.plan.tops),
            started_ns=started_ns,
            userxattr=self.plan.userxattr,
        )

    def prepare_record(self, record: BoxRecord) -> None:
        """Writes aside what a kept box needs, while there is room."""
        try:
            prepare_record(self.directory, record)
        except OSError as error:
            raise _explain(error, self.directory) from error

    def note_running(self, record: BoxRecord) -> None:
        """Says to who looks (`jubako box ps`) what runs in it."""
        try:
            note_running(self.directory, record.started_ns, record.label)
        except OSError as error:
            raise _explain(error, self.directory) from error

    def drop(self) -> None:
        """Lets go of it, and removes it unless it is a kept one by now. Nothing of it may run."""
        try:
            if not is_kept_box(self.directory):
                remove_box(self.directory)
        finally:
            os.close(self.lock)

    def abandon(self) -> None:
        """As `drop`, where something has gone wrong already: what cannot be removed now, a later start sweeps."""
        _abandon(self.directory, self.lock, is_kept=is_kept_box(self.directory))


def read_box_facts(state: StateRoot, environment: Mapping[str, str], cwd: str) -> WideFacts:
    """What a box of a command with this environment and working directory is planned from."""
    return read_wide_facts(_find_hidden(state), environment, cwd)


def try_anew(attempt: Callable[[WideFacts], Made], facts: WideFacts, read_facts: Callable[[], WideFacts]) -> Made:
    """What `attempt` makes of `facts`; of fresh ones where it raises NotStarted and this machine had changed."""
    for _ in range(_TRIES - 1):
        try:
            return attempt(facts)
        except NotStarted:
            if not _is_outdated(facts):
                raise
        facts = read_facts()
    return attempt(facts)


def _is_outdated(facts: WideFacts) -> bool:
    """True if what a box was planned from is not so any more: a mount has come or gone, or a directory that was to be
    copy-on-write."""
    return tuple(read_mount_table()) != facts.host.mounts or not all(
        os.path.isdir(place.path) for place in facts.places
    )


def make_new_box(
    box: Box, state: StateRoot, facts: WideFacts, stack: Stack | None = None, *, volatile: bool = True
) -> NewBox:
    """Makes a box as `box` says; `stack` says what lies between this machine and the box's tops."""
    shared = find_shared(box)
    _number_capabilities(choose_capabilities(box, facts.host.uid))
    if stack is not None and get_profile(box.profile).is_sealed:
        raise InputError(f"profile {box.profile!r} shows nothing of what a box holds")
    try:
        box_id, lock = make_box(state.boxes_path)
    except OSError as error:
        raise _explain(error, state.boxes_path) from error
    directory = os.path.join(state.boxes_path, box_id)
    try:
        stacked: Sequence[Stacked] = ()
        if stack is not None:
            targets = [top.target for top in WideView(facts, directory, shared).plan().tops if not top.is_file]
            stacked = stack(f"{directory}/stacked", userxattr=facts.host.in_user_namespace, targets=targets)
        return plan_box(box, WideView(facts, directory, shared, stacked, volatile=volatile), lock)
    except BaseException:
        _abandon(directory, lock)
        raise


def plan_box(box: Box, view: WideView, lock: int) -> NewBox:
    """The box in the view's directory, which `lock` holds and the caller drops if this fails."""
    facts, directory = view.facts, view.box_directory
    profile = get_profile(box.profile)
    view = replace(view, is_sealed=profile.is_sealed)
    if box.secrets:
        from jubako.boxes.views.plan_secrets import read_secrets  # for boxes with such

        view = replace(view, secrets=read_secrets(box.secrets, _find_owner(box)))
    if box.mounts:
        from jubako.boxes.views.plan_mounts import look_at_mounts  # for boxes with such

        view = replace(view, mounts=look_at_mounts(box.mounts))
    capabilities = _number_capabilities(choose_capabilities(box, facts.host.uid))
    plan = view.plan()
    is_mapped = facts.host.in_user_namespace
    confinement = Confinement(
        user_namespace=is_mapped,
        profile=profile,
        # Who asks for capabilities by name means those of this machine.
        inner=profile.user_namespace and not is_mapped and not box.capabilities,
        network=box.network,
        hostname=box.hostname,
        abstract_sockets=box.abstract_sockets,
        capabilities=capabilities,
        held_descriptors=(lock,),
        carrier=_carry_network(box, directory),
    )
    limited = _limit(box, view, plan)
    _warm_up(is_mapped, profile)
    copies = _prepare(view, plan, directory)
    return NewBox(os.path.basename(directory), directory, lock, facts, view, plan, confinement, copies, limited)


def _find_owner(box: Box) -> tuple[int, int] | None:
    """The uid and gid of who runs in the box, if that is not this user."""
    if not box.user:
        return None
    from jubako.boxes.commands.become import find_identity  # for boxes with a user

    identity = find_identity(box.user)
    return identity.uid, identity.gid


def _carry_network(box: Box, directory: str) -> Carrier | None:
    """What carries the box's private network, if it has one."""
    if box.network != "private":
        return None
    from jubako.boxes.networks.carrier import Carrier, read_network_facts  # with socket 4 ms, for private networks
    from jubako.boxes.networks.plan_network import plan_network
    from jubako.boxes.networks.publish import parse_published

    published = [parse_published(text) for text in box.publish]
    facts = read_network_facts(os.environ.get("PATH", ""))
    return Carrier(plan_network(facts, published, host_loopback=box.host_loopback), directory)


def _limit(box: Box, view: WideView, plan: WidePlan) -> Limited | None:
    if box.limits is None:
        return None
    from jubako.boxes.commands.limited import limit_box  # 12 modules, for boxes with limits

    uppers = [os.path.join(view.box_directory, top.upper) for top in plan.tops]
    host = view.facts.host
    return limit_box(box.limits, host.mounts, view.box_directory, uppers, own_user_namespace=host.in_user_namespace)


def _abandon(directory: str, lock: int, *, is_kept: bool = False) -> None:
    os.close(lock)  # where descriptors have run out, to remove anything takes this one
    try:
        if not is_kept:
            remove_box(directory)
    except OSError:
        return


def _prepare(view: WideView, plan: WidePlan, directory: str) -> Copies:
    """Makes what the view needs on disk."""
    try:
        return view.prepare(plan)
    except OSError as error:
        raise _explain(error, directory) from error
    except HostError as error:
        raise NotStarted(error.message, hint=error.hint) from error


def _explain(error: OSError, directory: str) -> NotStarted:
    return NotStarted(f"no box can be made in {directory}: {error.strerror}", hint=find_cure(error))


def find_shared(box: Box) -> tuple[KnownPath, ...]:
    """What the box shares with this machine. InputError for what isn't there."""
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


def _warm_up(user_namespace: bool, profile: Profile) -> None:
    """Computes here what a child would have to compute anew for every box (0.5 ms for the filter)."""
    compile_profile(profile)
    if not user_namespace:
        last_capability()
        has_lowerdir_plus()
