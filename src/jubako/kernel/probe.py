"""What this host can do for jubako, each ability with what is missing and the cure.

`probe_can_box` is asked at the start of every run and tries only what a box is made of (under 10 ms).
`probe_host` looks at everything `jubako doctor` shows. Neither changes anything that outlives it.
"""

from __future__ import annotations

import errno
import os
import sys

from jubako.kernel.box_trial import Trial, try_box
from jubako.kernel.capabilities import capability_number, capget
from jubako.kernel.children import fork_child, wait_for
from jubako.kernel.control_groups import read_control_groups
from jubako.kernel.durability import read_durability
from jubako.kernel.idmap import SubordinateRange, parse_subordinate_ids
from jubako.kernel.mount_table import Mount, find_mount, read_mount_table
from jubako.kernel.process import set_no_new_privs
from jubako.kernel.refusal import APPARMOR_SWITCH, Switches, explain_refusal, read_switches
from jubako.kernel.seccomp import default_filter, install_filter
from jubako.kernel.syscalls import AT_EMPTY_PATH, call
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Literal, TypeAlias

__all__ = ["Ability", "BoxAbility", "HostReport", "Verdict", "probe_can_box", "probe_host"]

Verdict: TypeAlias = "Literal['yes', 'limited', 'no']"

_NO_LINUX_CURE = "use a Linux machine, also a virtual one; tasks without a box run anywhere"
_MIB = 1 << 20
_GIB = 1 << 30
_LITTLE_SPACE_BYTES = _GIB
_LITTLE_MEMORY_BYTES = 512 * _MIB


@record
class Ability:
    """One thing the host can do, can do in part, or cannot. `cure` is "" where nothing is missing."""

    name: str
    verdict: Verdict
    meaning: str
    cure: str = ""


@record
class BoxAbility:
    """Whether boxes can be made here, and how: root needs no user namespace, if it really is root."""

    works: bool
    with_user_namespace: bool
    reason: str = ""  # why not
    cure: str = ""


@record
class HostReport:
    """Everything `probe_host` found; the first ability is "boxes"."""

    kernel_release: str
    machine: str
    is_root: bool
    can_box: bool
    abilities: tuple[Ability, ...]


def probe_can_box() -> BoxAbility:
    """Whether a box can be made, tried in a child. The caller should be single-threaded, as for any fork."""
    if sys.platform != "linux":
        return BoxAbility(False, False, f"boxes need Linux, and this is {sys.platform}", _NO_LINUX_CURE)
    return _judge(_try_boxes(), read_switches)


def probe_host(
    kept: Mapping[str, str], scratch: Mapping[str, str], *, environment_path: str = os.defpath
) -> HostReport:
    """Everything about this host. Helper programs are looked for in `environment_path` ($PATH).

    `kept` are directories whose contents should survive, `scratch` those where they need not: paths, by what they are
    called for people. They need not exist yet.
    """
    if sys.platform != "linux":
        return HostReport("", "", False, False, (_boxes(probe_can_box()),))
    switches = read_switches()
    table = read_mount_table()
    trials = _try_boxes()
    box = _judge(trials, lambda: switches)
    rootless = next((trial for trial in trials if trial.with_user_namespace), None)
    rootless = rootless or try_box(with_user_namespace=True)
    abilities = (
        _boxes(box),
        _kernel(),
        _user_namespaces(rootless, switches),
        _apparmor(rootless, switches),
        _layers(trials[-1]),
        _filter(),
        _control_groups(table),
        _id_ranges(environment_path),
        _limits(),
        _memory(),
        *(_space(name, path, table) for name, path in (*kept.items(), *scratch.items())),
        *_durabilities(kept.values(), table),
    )
    return HostReport(os.uname().release, os.uname().machine, os.geteuid() == 0, box.works, abilities)


def _try_boxes() -> list[Trial]:
    """The trials of the ways open to this user, until one succeeds; the last one decides."""
    if os.geteuid() != 0:
        return [try_box(with_user_namespace=True)]
    trial = try_box(with_user_namespace=False)
    return [trial] if trial.failed is None else [trial, try_box(with_user_namespace=True)]


def _judge(trials: Sequence[Trial], switches: Callable[[], Switches]) -> BoxAbility:
    last = trials[-1]
    if last.failed is None:
        return BoxAbility(True, last.with_user_namespace)
    refusal = explain_refusal(last, switches())
    return BoxAbility(False, last.with_user_namespace, refusal.reason, refusal.cure)


def _boxes(box: BoxAbility) -> Ability:
    if not box.works:
        return Ability("boxes", "no", f"tasks cannot run in boxes: {box.reason}", box.cure)
    way = "in a user namespace" if box.with_user_namespace else "as root"
    return Ability("boxes", "yes", f"tasks run in boxes {way}")


def _kernel() -> Ability:
    release = os.uname().release
    missing = [name for name in ("openat2", "mount_setattr", "pidfd_open") if not _has_call(name)]
    if missing:
        return Ability("kernel", "no", f"Linux {release} lacks {', '.join(missing)}", "use Linux 5.12 or newer")
    return Ability("kernel", "yes", f"Linux {release} has the calls boxes need")


def _has_call(name: str) -> bool:
    """True if the kernel has the call: refusing these arguments (a descriptor that is none) shows that it knows it."""
    arguments = (-1, b"", AT_EMPTY_PATH, bytes(32), 32) if name == "mount_setattr" else (-1, b"", bytes(24), 24)
    try:
        call(name, *arguments)
    except OSError as error:
        return error.errno != errno.ENOSYS
    return True


def _user_namespaces(trial: Trial, switches: Switches) -> Ability:
    name = "user namespaces"
    if trial.failed is None:
        return Ability(name, "yes", "ordinary users can make boxes, with overlays of what they may write")
    refusal = explain_refusal(trial, switches)
    verdict: Verdict = "limited" if os.geteuid() == 0 else "no"
    return Ability(name, verdict, f"ordinary users cannot make boxes: {refusal.reason}", refusal.cure)


def _apparmor(trial: Trial, switches: Switches) -> Ability:
    name = "AppArmor"
    if not switches.apparmor_restricts:
        return Ability(name, "yes", "does not restrict user namespaces")
    if trial.failed is None:
        return Ability(name, "yes", f"{APPARMOR_SWITCH}=1, but this program may use user namespaces")
    refusal = explain_refusal(trial, switches)
    return Ability(name, "limited", f"restricts user namespaces ({APPARMOR_SWITCH}=1)", refusal.cure)


def _layers(trial: Trial) -> Ability:
    if trial.has_lowerdir_plus:
        return Ability("overlay layers", "yes", "up to 500 layers, of any name")
    if trial.failed is None:
        return Ability("overlay layers", "limited", "as many layers as fit 4095 bytes", "use Linux 6.7 or newer")
    return Ability("overlay layers", "no", "not tried, since boxes cannot be made", "see boxes")


def _filter() -> Ability:
    name = "seccomp"
    try:
        program = default_filter()
    except OSError as error:
        return Ability(name, "no", error.strerror or str(error), "use an x86_64, aarch64 or riscv64 machine")

    def install() -> int:
        try:
            set_no_new_privs()
            install_filter(program)
        except OSError as error:
            return error.errno or 1
        return 0

    status = wait_for(fork_child(install))
    if status:
        why = os.strerror(status)
        return Ability(name, "no", f"no system calls can be denied in boxes ({why})", "use CONFIG_SECCOMP_FILTER=y")
    return Ability(name, "yes", "dangerous system calls are denied in boxes")


def _control_groups(table: Sequence[Mount]) -> Ability:
    groups = read_control_groups(table)
    name = "control groups"
    shown = ", ".join(one for one in groups.controllers if "=" not in one) or "none"
    if groups.mode == "v2" and groups.is_writable and "memory" in groups.controllers:
        return Ability(name, "yes", f"version 2, controllers: {shown}")
    bounded = "only the scratch of a box bounds its memory"
    if groups.mode == "v2":
        why = "memory is not delegated to this user" if groups.is_writable else "this user may not make groups"
        return Ability(
            name, "limited", f"version 2, but {why}; {bounded}", "systemd-run --user --scope -p Delegate=yes"
        )
    cure = "boot with systemd.unified_cgroup_hierarchy=1 for version 2; boxes work without"
    return Ability(name, "limited", f"{groups.mode}, controllers: {shown}; {bounded}", cure)


def _id_ranges(environment_path: str) -> Ability:
    """Own boxes map one id only; ranges are for images whose files belong to several users."""
    name, uid = "id ranges", os.getuid()
    if uid == 0:
        return Ability(name, "yes", "root may map any id")
    import shutil  # 5 ms, for an ordinary user's doctor alone

    names = {str(uid), _user_name(uid)}
    lent = [any(one.owner in names for one in _read_ranges(path)) for path in ("/etc/subuid", "/etc/subgid")]
    programs = [shutil.which(program, path=environment_path) for program in ("newuidmap", "newgidmap")]
    lacks = "boxes map this user's id only"
    if not all(lent):
        cure = f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {_user_name(uid)}"
        return Ability(name, "limited", f"{lacks}: no range in /etc/subuid and /etc/subgid", cure)
    if not all(programs):
        return Ability(
            name, "limited", f"{lacks}: newuidmap and newgidmap are missing", "install uidmap (shadow-utils)"
        )
    return Ability(name, "yes", "ranges of ids and the programs to map them are there")


def _user_name(uid: int) -> str:
    import pwd  # only here: not on every platform

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _read_ranges(path: str) -> tuple[SubordinateRange, ...]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return parse_subordinate_ids(file.read())
    except OSError:
        return ()


def _limits() -> Ability:
    if capget().effective >> capability_number("CAP_SYS_RESOURCE") & 1:
        return Ability("limits", "yes", "resource limits can be raised and lowered")
    return Ability("limits", "yes", "resource limits can be lowered, which is all that boxes need; root may raise them")


def _memory() -> Ability:
    with open("/proc/meminfo", encoding="utf-8") as file:
        values = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in file)}
    total, free = values["MemTotal"], values.get("MemAvailable", values["MemFree"])
    meaning = f"{_size(free)} of {_size(total)} free; the scratch of boxes lives there"
    if free < _LITTLE_MEMORY_BYTES:
        return Ability("memory", "limited", meaning, "fewer workers, or Box(scratch='disk')")
    return Ability("memory", "yes", meaning)


def _space(name: str, path: str, table: Sequence[Mount]) -> Ability:
    """Room in the directory `path`, or where it will be made."""
    existing = _nearest_directory(path)
    mount = find_mount(table, existing)
    space = os.statvfs(existing)
    free = space.f_bavail * space.f_frsize
    cure = "remove files there, or choose another disk"
    if not os.access(existing, os.W_OK | os.X_OK):
        return Ability(name, "no", f"{path} cannot be written by this user", "choose another, or change its owner")
    if space.f_files and not space.f_favail:
        return Ability(name, "no", f"no inodes free in {path}", cure)
    meaning = f"{_size(free)} free in {path} ({mount.fstype if mount else 'unknown'})"
    if free < _LITTLE_SPACE_BYTES:
        return Ability(name, "limited" if free else "no", meaning, cure)
    return Ability(name, "yes", meaning)


def _durabilities(paths: Iterable[str], table: Sequence[Mount]) -> Iterator[Ability]:
    """What each file system of `paths`, once, keeps when the power goes."""
    found = {one.mount_point: one for one in (read_durability(_nearest_directory(path), table) for path in paths)}
    for one in found.values():
        name = f"durability of {one.mount_point}"
        if one.holds_full:
            yield Ability(name, "yes", "what was published survives a power loss")
        else:
            yield Ability(name, "limited", f"what was published survives kill -9 only: {one.why_not}", one.cure)


def _nearest_directory(path: str) -> str:
    existing = os.path.realpath(path)
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing)
    return existing


def _size(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.1f} GiB" if size_bytes >= _GIB else f"{size_bytes // _MIB} MiB"
