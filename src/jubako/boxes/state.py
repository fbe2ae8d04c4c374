"""The state root: the one directory where jubako keeps what must outlive a process.

    ledger.sqlite          journal, runs, attempts, partitions, leases, staging places (WAL)
    stage/RUN/             staged outputs of a living run; `lock` is held (flock) while it lives
    boxes/ID/              a kept box
    logs/RUN/ATTEMPT.log   what a task printed

It holds locks and a write-ahead log with shared memory, and neither works between machines: a network file system is
refused. Only `find_state_root` knows the environment variables; it is pure, and `default_state_root` gives them to it.
"""

from __future__ import annotations

import os

from jubako.boxes.nesting import refuse_nesting
from jubako.errors import HostError, InputError
from jubako.kernel.durability import is_network_type
from jubako.kernel.mount_table import find_mount, read_mount_table
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["StateRoot", "default_state_root", "find_network_type", "find_state_root", "open_state_root"]

_HINT = "set JUBAKO_STATE to a directory of yours on a local disk"


@record
class StateRoot:
    """An opened state root. `path` is absolute, without symbolic links."""

    path: str

    @property
    def ledger_path(self) -> str:
        return os.path.join(self.path, "ledger.sqlite")

    @property
    def stage_path(self) -> str:
        return os.path.join(self.path, "stage")

    @property
    def boxes_path(self) -> str:
        return os.path.join(self.path, "boxes")

    @property
    def logs_path(self) -> str:
        return os.path.join(self.path, "logs")


def find_state_root(environ: Mapping[str, str], home: str) -> str:
    """$JUBAKO_STATE, else $XDG_STATE_HOME/jubako, else ~/.local/state/jubako; `home` stands for "~".

    A relative JUBAKO_STATE is an InputError: it would name another ledger in every directory. A relative
    XDG_STATE_HOME is ignored, as its specification says.
    """
    chosen = environ.get("JUBAKO_STATE", "")
    if chosen == "~" or chosen.startswith("~/"):
        chosen = home + chosen[1:]
    if chosen:
        if not os.path.isabs(chosen):
            raise InputError(f"JUBAKO_STATE={chosen!r} is not an absolute path", hint="give the full path")
        return os.path.normpath(chosen)
    shared = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(shared):
        shared = os.path.join(home, ".local/state")
    return os.path.normpath(os.path.join(shared, "jubako"))


def open_state_root(path: str) -> StateRoot:
    """The state root at `path`, made (mode 0700) where it is missing. Safe concurrently.

    Raises HostError on a network file system, on a directory that cannot be made or written, and on a full disk.
    """
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        root = StateRoot(os.path.realpath(path))
        kind = find_network_type(root.path)
        if kind:
            raise HostError(
                f"the state root {path} is on a network file system ({kind}), where locks and SQLite's write-ahead log "
                "do not hold",
                hint=_HINT,
            )
        for folder in (root.stage_path, root.boxes_path, root.logs_path):
            os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        refuse_nesting(f"the state root {path} is not to be seen in it", hint="set JUBAKO_STATE to a folder in the box")
        raise HostError(f"the state root {path} cannot be made: {error.strerror}", hint=_HINT) from error
    if not os.access(root.stage_path, os.W_OK | os.X_OK, effective_ids=True):
        raise HostError(f"the state root {path} cannot be written by user {os.geteuid()}", hint=_HINT)
    return root


def default_state_root() -> StateRoot:
    """The state root that the environment names, opened."""
    return open_state_root(find_state_root(os.environ, os.path.expanduser("~")))


def find_network_type(path: str) -> str | None:
    """The type of the network file system that `path` (absolute, no symbolic links) lies on; None on a local one.

    Locks (flock) and SQLite's shared memory are not kept coherent between the machines that mount one.
    """
    mount = find_mount(read_mount_table(), path)
    return mount.fstype if mount is not None and is_network_type(mount.fstype) else None
