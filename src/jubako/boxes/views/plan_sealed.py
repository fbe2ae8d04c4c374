"""Plans the view of a box whose command is to see little and to write nothing of the machine. Pure.

"/" is an empty file system in memory, on which the machine's directories are put read-only, as they are: nothing is
copy-on-write, and nothing of the box remains. Of homes and /sys nothing is shown, /dev has what needs no device, and
home, /tmp, /var/tmp and /run are the box's own. What the box shares or mounts is put in after that, wherever it is to
be; then "/" is read-only, too.
"""

from __future__ import annotations

import os

from jubako.boxes.views.facts import is_below
from jubako.boxes.views.operations import (
    MakeDirectory,
    MakeFile,
    MakeSymlink,
    MaskDirectory,
    MaskFile,
    MountProc,
    MountTmpfs,
    Operation,
    PivotRoot,
    PlaceTree,
    SetAttributes,
    TakeTree,
)
from jubako.boxes.views.plan_wide import WidePlan, plan_dev, plan_proc_settings, plan_run
from jubako.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jubako.boxes.views.facts import KnownPath
    from jubako.boxes.views.plan_wide import WideFacts

__all__ = ["is_sealed_off", "plan_sealed"]

_OWN = ("/dev", "/home", "/proc", "/root", "/run", "/sys", "/tmp")  # empty, or the box's own
_SCRATCH = ("/tmp", "/var/tmp")
_DEVICES = ("/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero")


def is_sealed_off(path: str, facts: WideFacts) -> bool:
    """True if the view does not show what the machine has at `path`."""
    own = (*_OWN, *_SCRATCH, *([facts.home] if facts.home not in ("", "/") else []))
    return any(is_below(path, directory) for directory in own)


def plan_sealed(facts: WideFacts, box_directory: str, shared: Sequence[KnownPath] = ()) -> WidePlan:
    """The plan of a box whose files are kept in `box_directory`; `shared` stays read-write and the machine's own."""
    root = f"{box_directory}/root"
    shown = [name for name, link in facts.root_entries if not link and not is_sealed_off(f"/{name}", facts)]
    host = facts.host
    few = replace(facts, host=replace(host, devices=tuple(d for d in host.devices if d.path in _DEVICES)), terminal="")
    operations = (
        *(TakeTree(one.path, one.path) for one in shared),
        *(TakeTree(f"own {path}", path, recursive=False) for path in _list_taken(few)),
        *(TakeTree(f"/{name}", f"/{name}") for name in shown),
        MountTmpfs(root, size="1m"),
        *(operation for name in shown for operation in _show(name, root)),
        *(MakeSymlink(f"{root}/{name}", link) for name, link in facts.root_entries if link),
        *(MakeDirectory(f"{root}{path}") for path in _OWN),
        MountProc(f"{root}/proc"),  # while that of this machine is in sight, without which a user may have none
        PivotRoot(root),
        *plan_dev(few),
        *plan_run(host),
        *_plan_scratch(facts),
        *plan_proc_settings(facts),
        *_hide(facts),
        *_put_shared(shared, facts),
    )
    notes = () if facts.home != "/" else ("the home directory is /, so nothing of it could be hidden",)
    return WidePlan((), operations, notes, userxattr=host.in_user_namespace, seal=(SetAttributes("/", read_only=True),))


def _list_taken(facts: WideFacts) -> tuple[str, ...]:
    return (*(device.path for device in facts.host.devices), *facts.host.run_files)


def _show(name: str, root: str) -> Iterator[Operation]:
    yield MakeDirectory(f"{root}/{name}")
    yield PlaceTree(f"/{name}", f"{root}/{name}")
    yield SetAttributes(f"{root}/{name}", read_only=True, nosuid=True, nodev=True, recursive=True)


def _plan_scratch(facts: WideFacts) -> Iterator[Operation]:
    has_var = any(name == "var" and not link for name, link in facts.root_entries)
    for path in _SCRATCH if has_var else _SCRATCH[:1]:
        yield MountTmpfs(path, size="50%", mode=0o1777)
    if facts.home not in ("", "/") and not any(
        is_below(facts.home, path) for path in ("/dev", "/proc", "/run", "/sys")
    ):
        yield MakeDirectory(facts.home)
        yield MountTmpfs(facts.home, size="50%", mode=0o700)


def _hide(facts: WideFacts) -> Iterator[Operation]:
    """Hides jubako's own directories and the sockets that reach out of the box, where what is shown has them."""
    for path in (*facts.host.masked_directories, *facts.host.hidden):
        if not is_sealed_off(path, facts):
            yield MaskDirectory(path)
    for path in facts.host.control_sockets:
        if not is_sealed_off(path, facts):
            yield MaskFile(path, "/dev/null")


def _put_shared(shared: Sequence[KnownPath], facts: WideFacts) -> Iterator[Operation]:
    for one in shared:
        if is_sealed_off(one.path, facts):
            yield MakeDirectory(one.path if one.is_directory else os.path.dirname(one.path))
            if not one.is_directory:
                yield MakeFile(one.path)
        yield PlaceTree(one.path, one.path)
