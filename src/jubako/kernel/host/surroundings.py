"""What this process runs in, a container or another sandbox, and what that takes away.

A container says what it is by files and variables that its engine leaves; each engine has its own. What it takes away
is read from the process itself (its capabilities, filter, ids, mounts), so it shows also where no engine is known.
`read_surroundings` looks, the rest is pure. Sources: the manual pages of podman-run, docker run and systemd-nspawn,
the container interface of systemd (systemd.io/CONTAINER_INTERFACE), capabilities(7), proc(5).
"""

from __future__ import annotations

import os

from jubako.kernel.capabilities import capability_number, last_capability
from jubako.kernel.host.ability import Ability, read_text
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jubako.kernel.mount_table import Mount

__all__ = ["Surroundings", "describe_surroundings", "find_cure", "name_container", "read_surroundings"]

_ABOUT = "surroundings"
# What boxes of root's are made with, or keep for installers.
_USED = ("CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SETPCAP", "CAP_SETUID", "CAP_SETGID", "CAP_DAC_OVERRIDE", "CAP_CHOWN")
_AT_HOME_IN_PROC = ("autofs", "binfmt_misc", "nfsd")
_WHOLE_MAP = "0 0 4294967295"

_ENGINES = {
    "filter": "--security-opt seccomp=unconfined",
    "proc": "--security-opt systempaths=unconfined (docker) or unmask=ALL (podman)",
    "capabilities": "--cap-add SYS_ADMIN (or --privileged), or run as an ordinary user",
    "ids": "--userns=host, or leave rootless mode",
    "profile": "--security-opt apparmor=unconfined (or label=disable, with SELinux)",
    "privileges": "no --security-opt no-new-privileges",
    "root": "-v VOLUME:/var/lib/jubako -e JUBAKO_STATE=/var/lib/jubako",
}
_NESTING = "'lxc config set NAME security.nesting=true' (LXD, Incus), or lxc.include = nesting.conf"
_CURES: Mapping[str, Mapping[str, str]] = {
    "docker": _ENGINES,
    "podman": _ENGINES,
    "kubernetes": {
        "filter": "securityContext.seccompProfile.type: Unconfined",
        "proc": "securityContext.procMount: Unmasked",
        "capabilities": "securityContext.capabilities.add: [SYS_ADMIN], or runAsUser other than 0",
        "ids": "hostUsers: true",
        "profile": "securityContext.appArmorProfile.type: Unconfined",
        "privileges": "securityContext.allowPrivilegeEscalation: true",
        "root": "an emptyDir volume, and JUBAKO_STATE below it",
    },
    "lxc": {
        "filter": _NESTING,
        "proc": _NESTING,
        "profile": _NESTING,
        "capabilities": "no lxc.cap.drop of it",
        "ids": "security.privileged=true",
        "root": "a disk device of its own, and JUBAKO_STATE below it",
    },
    "box": dict.fromkeys(_ENGINES, "run this outside of the box"),
    "systemd-nspawn": {
        "filter": "--system-call-filter= with the calls that are refused",
        "proc": "SYSTEMD_NSPAWN_API_VFS_WRITABLE=1 in its environment",
        "capabilities": "--capability=CAP_SYS_ADMIN",
        "ids": "--private-users=no",
        "privileges": "--no-new-privileges=no",
        "root": "--bind=DIRECTORY, and JUBAKO_STATE below it",
    },
}
_ELSEWHERE = {"root": "set JUBAKO_STATE to a directory on a local disk"}


@record
class Surroundings:
    """What this process finds around itself."""

    container: str = ""  # "docker", "podman", "lxc", "systemd-nspawn", "kubernetes", "box", ...; "" if nothing shows
    version: str = ""  # of the engine, where it says; the id of a box
    bounding: int = 0  # capabilities that can be had at all
    uid_map: str = _WHOLE_MAP
    is_filtered: bool = False
    has_no_new_privs: bool = False
    covered: tuple[str, ...] = ()  # paths below /proc that something is mounted over, or read-only
    profile: str = ""  # the label of AppArmor or SELinux, "" if unconfined
    root_type: str = ""  # of the file system at /

    @property
    def title(self) -> str:
        return f"{self.container} {self.version}".strip()

    @property
    def kind(self) -> str:
        """What to call it in a sentence."""
        return "this box" if self.container == "box" else "the container"


def read_surroundings(environment: Mapping[str, str], table: Sequence[Mount]) -> Surroundings:
    """What this process finds. `environment` is its own."""
    status = dict(line.split(":", 1) for line in read_text("/proc/self/status").splitlines() if ":" in line)
    exists = {path for path in ("/.dockerenv", "/.flatpak-info", "/run/.containerenv") if os.path.exists(path)}
    texts = {
        path: read_text(path)
        for path in ("/run/.containerenv", "/run/systemd/container", "/run/host/container-manager", "/proc/1/environ",
                     "/proc/1/cgroup", "/proc/sys/kernel/osrelease")
    }  # fmt: skip
    container, version = name_container(environment, exists, texts)
    top = [mount for mount in table if mount.mount_point == "/"]
    return Surroundings(
        container=container,
        version=version,
        bounding=int(status.get("CapBnd", "0"), 16),
        uid_map=" ".join(read_text("/proc/self/uid_map").split()),
        is_filtered=status.get("Seccomp", "").strip() == "2",
        has_no_new_privs=status.get("NoNewPrivs", "").strip() == "1",
        covered=tuple(_find_covered(table)),
        profile=_read_profile(),
        root_type=top[-1].fstype if top else "",
    )


def name_container(environment: Mapping[str, str], exists: set[str], texts: Mapping[str, str]) -> tuple[str, str]:
    """The kind of the container and its engine's version; both "" where nothing shows. Pure.

    `exists` are those of the tell-tale files that are there, `texts` what the readable ones say.
    """
    variables = dict(word.split("=", 1) for word in texts.get("/proc/1/environ", "").split("\0") if "=" in word)
    said = (
        texts.get("/run/host/container-manager")
        or texts.get("/run/systemd/container")
        or variables.get("container")
        or environment.get("container", "")
    )
    if "KUBERNETES_SERVICE_HOST" in environment or "kubepods" in texts.get("/proc/1/cgroup", ""):
        return "kubernetes", ""
    if "/run/.containerenv" in exists or said == "podman":
        engine = [line for line in texts.get("/run/.containerenv", "").splitlines() if line.startswith("engine=")]
        return "podman", engine[0].partition("=")[2].strip('"').removeprefix("podman-") if engine else ""
    if said:
        return said, ""
    if "/.dockerenv" in exists:
        return "docker", ""
    if "/.flatpak-info" in exists:
        return "flatpak", ""
    if "SNAP" in environment and "SNAP_REVISION" in environment:
        return "snap", environment["SNAP_REVISION"]
    if "microsoft" in texts.get("/proc/sys/kernel/osrelease", "").lower():
        return "wsl", ""
    return "", ""


def find_cure(container: str, what: str) -> str:
    """What to start a container of this kind with, so that it does not take `what` away."""
    cures = _CURES.get(container)
    if cures is None:
        return _ELSEWHERE.get(what, "start this outside of what confines it")
    if container == "box":
        return cures[what]
    if what == "root":
        return f"give the container {cures[what]}"
    return f"start the container with {cures[what]}" if what in cures else "start this outside of the container"


def describe_surroundings(around: Surroundings) -> Iterator[Ability]:
    """What is around this process, then a row for each thing that it takes away. Pure."""
    rows = list(_describe_losses(around))
    lost = [row.name for row in rows if row.verdict != "yes"]
    what = f"runs in {around.title}" if around.container else "no container shows"
    takes = f", which takes away: {', '.join(lost)}" if lost and around.container else ""
    yield Ability(
        _ABOUT,
        "box" if around.container == "box" else "container",
        "limited" if lost and around.container else "yes",
        what + takes + (", which takes away nothing that is needed" if around.container and not lost else ""),
        "what confines this process confines its boxes, and may forbid them",
        "see the rows below, each with the way to get it back" if takes else "",
    )
    yield from rows


def _describe_losses(around: Surroundings) -> Iterator[Ability]:
    def lost(name: str, meaning: str, why: str, what: str) -> Ability:
        return Ability(_ABOUT, name, "limited", meaning, why, find_cure(around.container, what))

    missing = [name for name in _USED if not around.bounding >> capability_number(name) & 1]
    others = sum(not around.bounding >> number & 1 for number in range(last_capability() + 1)) - len(missing)
    if missing:
        yield lost(
            "capabilities",
            f"{', '.join(missing)} and {others} more cannot be had"
            if others
            else f"{', '.join(missing)} cannot be had",
            "root needs them to mount, and installers to work; an ordinary user's boxes need none",
            "capabilities",
        )
    if around.is_filtered:
        yield lost("system call filter", "this process runs under one", "it may refuse namespaces and mounts", "filter")
    if around.has_no_new_privs:
        yield lost(
            "new privileges",
            "set-id programs gain nothing here",
            "newuidmap and newgidmap, which map ranges of ids, are such programs",
            "privileges",
        )
    if around.covered:
        shown = ", ".join(around.covered[:3]) + (f" and {len(around.covered) - 3} more" * (len(around.covered) > 3))
        yield lost(
            "/proc",
            f"covered or read-only: {shown}",
            "a fresh /proc, which a box needs, is refused in a user namespace where this one is not whole",
            "proc",
        )
    if around.uid_map != _WHOLE_MAP:
        yield lost(
            "user ids",
            f"a user namespace: only these ids are mapped (inside, outside, count): {around.uid_map}",
            "root here is not the machine's root, and files of other ids cannot be copied",
            "ids",
        )
    if around.profile:
        yield lost(
            "security profile", f"confined by {around.profile}", "it may refuse mounts and namespaces", "profile"
        )
    if around.root_type in ("overlay", "fuse-overlayfs", "fuse.fuse-overlayfs"):
        yield lost(
            "root file system",
            f"/ is {around.root_type}",
            "what a box writes cannot be kept on it: an overlay cannot be the top of another",
            "root",
        )


def _find_covered(table: Sequence[Mount]) -> Iterator[str]:
    for mount in table:
        point = mount.mount_point
        is_covered = point.startswith("/proc/") and mount.fstype not in _AT_HOME_IN_PROC
        if is_covered or (point == "/proc" and mount.is_read_only):
            yield point


def _read_profile() -> str:
    label = read_text("/proc/self/attr/apparmor/current") or read_text("/proc/self/attr/current")
    if not label or label.startswith("unconfined") or "unconfined_t" in label or ":kernel_t" in label:
        return ""
    return label
