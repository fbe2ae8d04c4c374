"""How mounts are shown: a tree with words for people, every field for programs."""

from __future__ import annotations

import os

from jubako.cli.document import Document, Format
from jubako.cli.terminal import echo, printable
from jubako.kernel.mount_tree import arrange_mounts
from jubako.kernel.propagation import masters_of, peers_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from jubako.kernel.mount_table import Mount
    from jubako.kernel.mount_tree import Branch
    from jubako.kernel.propagation import Peer

__all__ = ["echo_legend", "mounts_document", "set_document", "shown_propagation"]

_COLUMNS = (
    *("id", "parent_id", "unique_id", "depth", "mount_point", "root", "device", "fstype", "source", "options"),
    *("super_options", "propagation", "peer_group", "master", "propagate_from", "peers", "masters", "covered"),
)
_MANY = 2  # peers that are named before the rest are counted

_LEGEND = {
    "private": "what is mounted below it stays here, and nothing comes.",
    "shared:N": "what is mounted below it is mounted below all of group N, and the other way round.",
    "slave of N": "what is mounted below group N comes here, and nothing goes back.",
    "unbindable": "private, and cannot be bound to another place.",
    "(covered)": "another mount was put over it, or over a directory above it.",
}


def mounts_document(
    table: Sequence[Mount],
    members: Mapping[int, Sequence[Peer]],
    covered: Collection[int],
    format_: Format,
    *,
    facts: Mapping[str, object],
) -> Document:
    """The mounts as a document; `members` are the peer groups, `covered` the ids of mounts no path leads to."""
    branches = arrange_mounts(table)
    if format_ == "table":
        rows = [_row_for_people(branch, members, covered) for branch in branches]
        return Document("", ("mount_point", "propagation", "type", "source", "options"), rows)
    whole = [_whole_row(branch, members, covered) for branch in branches]
    return Document("jubako.mounts/1", _COLUMNS, whole, facts, "mounts")


def set_document(after: Sequence[Mount], before: Mapping[int, Mount], format_: Format) -> Document:
    """What became of mounts whose propagation was set. `before` are the same ones by id."""
    rows = []
    for branch in arrange_mounts(after):
        mount, old = branch.mount, before.get(branch.mount.id)
        rows.append(
            {
                "mount_point": mount.mount_point,
                "propagation": mount.propagation,
                "peer_group": mount.peer_group,
                "master": mount.master,
                "was": old and old.propagation,
            }
            if format_ != "table"
            else {
                "mount_point": _name(branch),
                "propagation": shown_propagation(mount),
                "was": old and shown_propagation(old),
            }
        )
    if format_ == "table":
        return Document("", ("mount_point", "propagation", "was"), rows)
    columns = ("mount_point", "propagation", "peer_group", "master", "was")
    return Document("jubako.mounts.set/1", columns, rows, {}, "mounts")


def echo_legend(table: Iterable[Mount], covered: Collection[int]) -> None:
    """What the words in the table mean, on stderr; only those that are there."""
    used = set()
    for mount in table:
        used.add("private" if mount.propagation == "private" else "")
        used.add("shared:N" if mount.peer_group else "")
        used.add("slave of N" if mount.master else "")
        used.add("unbindable" if mount.unbindable else "")
        used.add("(covered)" if mount.id in covered else "")
    for word, meaning in _LEGEND.items():
        if word in used:
            echo(f"{word}: {meaning}", err=True)


def shown_propagation(mount: Mount) -> str:
    """As the kernel has it, numbers and all: "shared:2, slave of 1"."""
    words = []
    if mount.peer_group:
        words.append(f"shared:{mount.peer_group}")
    if mount.master:
        words.append(f"slave of {mount.master}")
    if mount.dominant:
        words.append(f"through {mount.dominant}")
    if mount.unbindable:
        words.append("unbindable")
    return ", ".join(words) or "private"


def _row_for_people(
    branch: Branch, members: Mapping[int, Sequence[Peer]], covered: Collection[int]
) -> Mapping[str, object]:
    mount = branch.mount
    words = shown_propagation(mount)
    if mount.peer_group:
        words += f"; peers: {_named(peers_of(mount, members))}"
    if mount.master:
        words += f"; from: {_named(masters_of(mount, members))}"
    return {
        "mount_point": _name(branch) + (" (covered)" if mount.id in covered else ""),
        "propagation": words,
        "type": mount.fstype,
        "source": mount.source if mount.root == "/" else f"{mount.source}[{mount.root}]",
        "options": mount.options,
    }


def _whole_row(branch: Branch, members: Mapping[int, Sequence[Peer]], covered: Collection[int]) -> Mapping[str, object]:
    mount = branch.mount
    return {
        "id": mount.id,
        "parent_id": mount.parent_id,
        "unique_id": mount.unique_id or None,
        "depth": branch.depth,
        "mount_point": mount.mount_point,
        "root": mount.root,
        "device": f"{os.major(mount.device)}:{os.minor(mount.device)}",
        "fstype": mount.fstype,
        "source": mount.source,
        "options": mount.options,
        "super_options": mount.super_options,
        "propagation": mount.propagation,
        "peer_group": mount.peer_group,
        "master": mount.master,
        "propagate_from": mount.dominant,
        "peers": [_peer_row(peer) for peer in peers_of(mount, members)],
        "masters": [_peer_row(peer) for peer in masters_of(mount, members)],
        "covered": mount.id in covered,
    }


def _peer_row(peer: Peer) -> dict[str, object]:
    return {"mount_point": peer.mount.mount_point, "pid": peer.pid or None, "process": peer.process or None}


def _name(branch: Branch) -> str:
    if not branch.is_last:
        return branch.mount.mount_point
    *above, own = branch.is_last
    stem = "".join("  " if last else "│ " for last in above)
    return f"{stem}{'└─' if own else '├─'}{branch.mount.mount_point}"


def _named(peers: Sequence[Peer]) -> str:
    """The first few of them in words."""
    if not peers:
        return "none to be seen"
    named = [
        f"{peer.mount.mount_point} of {printable(peer.process)} ({peer.pid})" if peer.pid else peer.mount.mount_point
        for peer in peers[:_MANY]
    ]
    more = len(peers) - len(named)
    return " and ".join((", ".join(named), *([f"{more} more"] if more else ())))
