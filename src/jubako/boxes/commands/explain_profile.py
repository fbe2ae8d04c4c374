"""What each profile comes to, in words: read off the values that boxes are made by, so that it says what is done."""

from __future__ import annotations

from jubako.boxes.views.capabilities import ROOT_CAPABILITIES
from jubako.kernel import allowed_calls, seccomp
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jubako.boxes.profiles import Profile

__all__ = ["Trait", "explain_calls", "explain_profile"]


@record
class Trait:
    """One property of a profile: what it is about, what holds, and why."""

    about: str
    holds: str
    why: str


def explain_profile(profile: Profile) -> tuple[Trait, ...]:
    """All that there is to say of a profile, but for single system calls."""
    return (
        *_explain_view(profile),
        *_explain_namespaces(profile),
        *_explain_rights(profile),
        Trait("secrets", "files in /run/secrets, of the command's user alone", "an environment is read by every child"),
    )


def _explain_view(profile: Profile) -> Iterator[Trait]:
    if profile.is_sealed:
        yield Trait(
            "files",
            "this machine's, read-only; /tmp, /var/tmp, /run and home are empty and its own",
            "what it is to read and to leave behind, it is given: --bind",
        )
        yield Trait("homes", "hidden: home is empty, other homes are not there", "keys and tokens are there")
        yield Trait(
            "devices",
            "null, zero, full, random, urandom, and terminals of its own",
            "a driver is much code of the kernel's",
        )
        yield Trait("/sys", "hidden", "it tells what this machine is, and little that a program needs")
    else:
        yield Trait("files", "this machine's, copy-on-write", "nothing of what it writes is real until it is committed")
        yield Trait(
            "devices",
            "null, zero, full, random, urandom, tty, accelerators, and terminals of its own",
            "what has no effect on files; training needs its accelerator",
        )
        yield Trait("/sys", "read-only", "it sets up the machine")
    yield Trait(
        "control sockets",
        "hidden: /run, container engines, the desktop, agents",
        "a read-only file system does not keep anybody from connecting",
    )
    yield Trait(
        "/proc",
        "its own; the kernel's settings in it are read-only for root",
        "uid 0 may change them whatever its capabilities are",
    )


def _explain_namespaces(profile: Profile) -> Iterator[Trait]:
    own = "mounts, processes, IPC and host name are its own"
    yield Trait("namespaces", own, "it cannot see, signal or trace what runs outside, and it ends with pid 1")
    if profile.user_namespace:
        holds = "its own, root's too, which it enters when the mounts are made"
        why = "its capabilities are none over mounts, networks and settings of this machine"
    else:
        holds = "root has none of its own: uid 0 is uid 0; a user has one"
        why = "what it is for needs root's capabilities"
    yield Trait("user namespace", holds, why)
    if profile.is_sealed:
        yield Trait("network", "none but a loopback of its own", "what it has read stays where it is")
    else:
        yield Trait("network", "this machine's, or --network none, or private", "most work fetches or stores something")
    yield Trait(
        "abstract sockets",
        "closed (from Linux 6.12 on), unless --abstract-sockets",
        "no view can hide them, and desktops and daemons listen there",
    )
    nested = "allowed" if profile.nests else "refused"
    yield Trait(
        "namespaces in it",
        nested,
        "containers are made of them" if profile.nests else "they open much of the kernel to who has no rights",
    )
    first = "the command itself" if profile.is_first else "jubako, which reaps what is left over"
    yield Trait("pid 1", first, "an init insists on it" if profile.is_first else "most programs cannot do it")


def _explain_rights(profile: Profile) -> Iterator[Trait]:
    usual = ", ".join(name.removeprefix("CAP_").lower() for name in ROOT_CAPABILITIES)
    holds, why = {
        "usual": (f"root keeps {usual}; a user none", "installers change owners, modes and users"),
        "none": ("none, root neither", "a program needs none to compute"),
        "held": (
            "root keeps all that it has, and can leave the box; a user none",
            "tracers and container engines need them",
        ),
        "own": (
            "all, in a user namespace that owns nothing of this machine",
            "an init mounts, and becomes other users",
        ),
    }[profile.capabilities]
    yield Trait("capabilities", holds, why)
    if profile.no_new_privileges:
        yield Trait("set-id programs", "without effect", "no program gives it rights it was not started with")
    else:
        yield Trait(
            "set-id programs",
            "without effect, as the file systems are nosuid",
            "services become other users by calls that an init may make",
        )
    holds, why = {
        "refusing": (
            f"{len(seccomp.DENIED)} refused, and some by their arguments",
            "they reach out of the box, or widen what can go wrong in the kernel",
        ),
        "allowing": (
            f"{sum(map(len, allowed_calls.ALLOWED.values()))} allowed, all others refused",
            "what is not there cannot be used against the kernel",
        ),
        "init": (
            f"{len(seccomp.init_rules())} refused: those that no namespace separates",
            "mounts and namespaces are an init's work, and owned by its user namespace",
        ),
        "none": ("no filter", "tracing and nested containers need what it would refuse"),
    }[profile.filter]
    yield Trait("system calls", holds, why)
    if profile.filter != "none":
        yield Trait(
            "other conventions",
            "calls made the 32-bit way end the process, x32 ones fail",
            "they have numbers of their own, which would slip past the list",
        )


def explain_calls(profile: Profile) -> tuple[Trait, ...]:
    """The system calls: for each group, whether it is allowed, which they are, and why."""
    if profile.filter == "allowing":
        allowed = [Trait("allowed", " ".join(names), why) for why, names in allowed_calls.ALLOWED.items()]
        return (*allowed, *(Trait("refused", " ".join(names), why) for why, names in allowed_calls.LEFT_OUT.items()))
    rules: dict[str, seccomp.Rule | None] = {}
    if profile.filter != "none":
        rules = seccomp.default_rules() if profile.filter == "refusing" else seccomp.init_rules()
    always = {name for name, rule in rules.items() if rule is not None and not rule.is_conditional}
    depends = {name for name, rule in rules.items() if rule is not None and rule.is_conditional}
    found = []
    for why, names in allowed_calls.LEFT_OUT.items():
        if refused := [name for name in names if name in always]:
            found.append(Trait("refused", " ".join(refused), why))
    if depends:
        why = "namespaces, typing into a terminal, sockets of the virtual machine's host"
        found.append(Trait("by argument", " ".join(sorted(depends)), why))
    return tuple(found)
