"""Binds whose files show with other owners: who has them in the box, whose they are outside, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from crash.disks import mount_disk
from jubako.boxes.mounts import Bind, IdMap
from jubako.boxes.spec import Box, Host
from jubako.errors import HostError, InputError
from jubako.kernel import mounts, namespaces
from jubako.kernel.filesystems import tmpfs
from jubako.kernel.idmap import IdRange
from jubako.kernel.mounts import MS_PRIVATE, MS_REC, OPEN_TREE_CLONE, attach, mount, open_tree
from jubako.kernel.overlay import Overlay, mount_overlay
from jubako.kernel.syscalls import AT_FDCWD
from jubako.kernel.user_namespaces import open_user_namespace

if TYPE_CHECKING:
    from tests.boxes.conftest import Desk

Result = TypeVar("Result")

pytestmark = [pytest.mark.box, pytest.mark.skipif(os.geteuid() != 0, reason="only root may map the owners of files")]
of_root = pytest.mark.parametrize("in_user_child", ["root"], indirect=True)

FILES, THERE, ELSE = 1000, 1234, 2000  # who has the files outside, who is to have them in the box, and somebody else
LIST = "stat -c '%n %u:%g' *"


def whole(source: Path | str, target: Path | str, idmap: object, **options: object) -> Box:
    read_only = bool(options.pop("read_only", False))
    bind = Bind(str(source), str(target), read_only=read_only, idmap=idmap)  # type: ignore[arg-type]
    return Box(Host(whole=True), mounts=[bind], **options)  # type: ignore[arg-type]


def one(uid: int, shown: int) -> IdMap:
    return IdMap(uids=[(uid, shown, 1)], gids=[(uid, shown, 1)])


def make_files(folder: Path) -> Path:
    """A folder of FILES's, with a file of it and one of somebody else's."""
    folder.mkdir()
    for path, owner in ((folder / "theirs", FILES), (folder / "else", ELSE)):
        path.write_text("read me\n")
        os.chown(path, owner, owner)
    os.chown(folder, FILES, FILES)
    return folder


def owners(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_uid, path.stat().st_gid) for path in folder.iterdir()}


def among_own_mounts(desk: Desk, function: Callable[[], Result]) -> Result:
    """What `function` returns, which mounts what it likes below its working directory."""

    def there() -> Result:
        namespaces.unshare(namespaces.CLONE_NEWNS)
        mount("none", "/", flags=MS_REC | MS_PRIVATE)
        attach(tmpfs(), "/mnt")
        os.chdir("/mnt")
        return function()

    return desk.do(there)


@of_root
@pytest.mark.parametrize("kind", ["tmpfs", "ext4", "xfs", "btrfs"])
def test_files_show_as_the_users_and_what_it_writes_is_the_owners_outside(desk: Desk, kind: str) -> None:
    def use() -> tuple[list[str], dict[str, tuple[int, int]], str]:
        data = make_files(mount_disk(kind) / "data")
        script = (
            f"cd {desk.home}/data; {LIST}; echo more >> theirs && touch new && mkdir below && {LIST}; chmod 600 theirs"
        )
        seen = desk.see(script, whole(data, desk.home / "data", one(FILES, THERE), user=str(THERE)))
        return seen.output.splitlines(), owners(data), (data / "theirs").read_text()

    printed, outside, text = among_own_mounts(desk, use)
    mine, nobody = f"{THERE}:{THERE}", "65534:65534"
    before = [f"else {nobody}", f"theirs {mine}"]
    assert printed == [*before, f"below {mine}", before[0], f"new {mine}", before[1]]
    assert outside == dict.fromkeys(("below", "new", "theirs"), (FILES, FILES)) | {"else": (ELSE, ELSE)}
    assert text == "read me\nmore\n"


@of_root
def test_who_has_no_id_on_disk_can_make_nothing_there_not_even_root(desk: Desk) -> None:
    data = make_files(desk.home / "data")
    data.chmod(0o777)
    for user in ("77", ""):
        seen = desk.see("cat view/else; touch view/new", whole(data, desk.home / "view", one(FILES, THERE), user=user))
        assert seen.output.startswith("read me\n")
        assert "Value too large for defined data type" in seen.output
    assert sorted(owners(data)) == ["else", "theirs"]


@of_root
def test_read_only_holds_for_what_is_mapped(desk: Desk) -> None:
    data = make_files(desk.home / "data")
    box = whole(data, desk.home / "view", one(FILES, THERE), user=str(THERE), read_only=True)
    seen = desk.see(f"cd view; {LIST}; touch new", box)
    assert seen.output.startswith(f"else 65534:65534\ntheirs {THERE}:{THERE}\n")
    assert "Read-only file system" in seen.output
    assert sorted(owners(data)) == ["else", "theirs"]


@of_root
def test_ranges_map_each_and_a_kind_without_stays_as_it_is(desk: Desk) -> None:
    data = make_files(desk.home / "data")
    idmap = IdMap(uids=[(FILES, 0, 5), (ELSE, 7, 1)])
    seen = desk.see(f"cd view; {LIST}; touch new; chown 3:{ELSE} new; {LIST}", whole(data, desk.home / "view", idmap))
    before = [f"else 7:{ELSE}", f"theirs 0:{FILES}"]
    assert seen.output.splitlines() == [*before, before[0], f"new 3:{ELSE}", before[1]]
    assert owners(data)["new"] == (FILES + 3, ELSE)


@of_root
def test_owner_of_the_source_shows_as_root_or_as_the_owner_of_the_place(desk: Desk) -> None:
    data = make_files(desk.home / "data")
    (desk.home / "place").mkdir()
    os.chown(desk.home / "place", THERE, THERE + 1)
    for idmap, user, shown in (("root", "", (0, 0)), ("owner", f"{THERE}:{THERE + 1}", (THERE, THERE + 1))):
        box = whole(data, desk.home / "place", idmap, user=user)
        seen = desk.see(f"cd place; stat -c %u:%g theirs; touch made-{idmap}", box)
        assert seen.output == "{}:{}\n".format(*shown)
        assert owners(data)[f"made-{idmap}"] == (FILES, FILES)


@of_root
def test_single_file_can_be_mapped(desk: Desk) -> None:
    data = make_files(desk.home / "data")
    box = whole(data / "theirs", desk.home / "file", one(FILES, THERE), user=str(THERE))
    seen = desk.see("stat -c %u:%g file; echo more >> file", box)
    assert seen.output == f"{THERE}:{THERE}\n"
    assert (data / "theirs").read_text() == "read me\nmore\n"


@of_root
def test_what_is_mounted_below_is_mapped_too(desk: Desk) -> None:
    def use() -> tuple[str, dict[str, tuple[int, int]]]:
        data = make_files(mount_disk("ext4") / "data")
        (data / "memory").mkdir()
        attach(tmpfs(), data / "memory")
        make_files(data / "memory/below")
        script = f"cd {desk.home}/data/memory/below; {LIST}; touch new"
        seen = desk.see(script, whole(data, desk.home / "data", one(FILES, THERE), user=str(THERE)))
        return seen.output, owners(data / "memory/below")

    printed, outside = among_own_mounts(desk, use)
    assert printed == f"else 65534:65534\ntheirs {THERE}:{THERE}\n"
    assert outside == {"else": (ELSE, ELSE), "theirs": (FILES, FILES), "new": (FILES, FILES)}


@of_root
def test_state_of_jubako_stays_hidden_in_what_is_mapped(desk: Desk) -> None:
    top = desk.home.parent
    seen = desk.see(f"ls {desk.home}/top/state | grep -c boxes; ls -d top/home", whole(top, desk.home / "top", "root"))
    assert seen.output == "0\ntop/home\n"


def overlay_of_two(folder: Path) -> Path:
    for name in ("low", "top", "work", "merged"):
        (folder / name).mkdir(parents=True)
    layers = Overlay(lowers=(str(folder / "low"),), upper=str(folder / "top"), work=str(folder / "work"))
    mount_overlay(layers, str(folder / "merged"))
    return folder / "merged"


def mapped_already(folder: Path) -> Path:
    folder.mkdir()
    attach(tmpfs(), folder)
    ids = (IdRange(0, 1, 1),)
    userns_fd, tree = open_user_namespace(ids, ids), open_tree(AT_FDCWD, folder, OPEN_TREE_CLONE)
    mounts.idmap_tree(tree, userns_fd)
    os.close(userns_fd)
    attach(tree, folder)
    return folder


CURE = "Bind directories of ext4, xfs or btrfs, or, from Linux 6.3 on, tmpfs, with nothing else mounted below."


@of_root
@pytest.mark.parametrize(
    ("make", "why", "cure"),
    [
        (overlay_of_two, "/mnt/x/merged is an overlay, which the kernel does not map", CURE),
        (lambda folder: Path("/proc"), "/proc is proc, which this kernel does not map", CURE),
        (mapped_already, "/mnt/x is mapped already", "Bind it from where its files show as on disk."),
    ],
    ids=["overlay", "proc", "mapped"],
)
def test_mount_that_cannot_be_mapped_is_named_with_the_cure_and_no_box_is_left(
    desk: Desk, make: Callable[[Path], Path], why: str, cure: str
) -> None:
    def use() -> tuple[Path, str, str, list[str]]:
        source = make(Path("/mnt/x"))
        with pytest.raises(HostError) as caught:
            desk.run("true", whole(source, desk.home / "view", one(FILES, THERE)))
        return source, caught.value.message, caught.value.hint, os.listdir(desk.state.boxes_path)

    source, message, hint, left = among_own_mounts(desk, use)
    assert (message, hint) == (f"the owners of the files at {source} cannot be mapped: {why}", cure)
    assert left == []


@of_root
def test_mount_below_that_cannot_be_mapped_is_named(desk: Desk) -> None:
    def use() -> str:
        overlay_of_two(Path("/mnt/x"))
        with pytest.raises(HostError) as caught:
            desk.run("true", whole("/mnt", desk.home / "view", one(FILES, THERE)))
        return caught.value.message

    assert among_own_mounts(desk, use) == (
        "the owners of the files at /mnt cannot be mapped, for /mnt/x/merged lies below it:"
        " /mnt/x/merged is an overlay, which the kernel does not map"
    )


@of_root
def test_owner_of_a_place_that_is_not_there_is_nobody(desk: Desk) -> None:
    def use() -> tuple[str, list[str]]:
        with pytest.raises(InputError) as caught:
            desk.run("true", whole("/etc", "/no/such/place", "owner"))
        return caught.value.message, os.listdir(desk.state.boxes_path)

    said = "the owner of /no/such/place is to have what is bound there, and nobody owns it: No such file or directory"
    assert desk.do(use) == (said, [])


@pytest.mark.parametrize("in_user_child", ["rootless"], indirect=True)
@pytest.mark.parametrize("idmap", ["root", "owner", one(FILES, THERE)], ids=["root", "owner", "ids"])
def test_ordinary_user_is_told_that_it_is_roots(desk: Desk, idmap: object) -> None:
    def use() -> tuple[str, str, list[str]]:
        with pytest.raises(InputError) as caught:
            desk.run("true", whole("/etc", desk.home, idmap))
        return caught.value.message, caught.value.hint, os.listdir(desk.state.boxes_path)

    assert desk.do(use) == (
        f"/etc is to show with other owners at {desk.home}, and only root can have that",
        "As an ordinary user, show it without idmap: what is yours is yours in the box.",
        [],
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (IdMap, "an id map without ranges maps nothing"),
        (lambda: IdMap(uids=[(0, 0, 0)]), "0-0-0 is no range of uids"),
        (lambda: IdMap(gids=[(-1, 0, 1)]), "-1-0-1 is no range of gids"),
        (lambda: IdMap(uids=[(0, 2**32 - 2, 2)]), "0-4294967294-2 is no range of uids"),
        (lambda: IdMap(uids=[(1, 2)]), "1-2 is no range of uids"),  # type: ignore[list-item]
        (lambda: IdMap(uids=[(5, 0, 2), (6, 9, 1)]), "two ranges of uids have the id 6 on disk"),
        (lambda: IdMap(gids=[(0, 5, 2), (9, 6, 1)]), "two ranges of gids have the id 6 in the box"),
        (lambda: IdMap(uids=[(n, n, 1) for n in range(341)]), "341 ranges of uids are more than the 340"),
        (lambda: Bind("/a", "/b", idmap="user"), "idmap='user' is neither an IdMap nor 'root' nor 'owner'"),  # type: ignore[arg-type]
    ],
)
def test_map_that_makes_no_sense_is_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()


@of_root
def test_as_many_ranges_as_the_kernel_takes_are_taken(desk: Desk) -> None:
    data = make_files(desk.home / "data")
    idmap = IdMap(uids=[(FILES + 2 * n, 5000 - 2 * n, 1) for n in range(340)])
    assert desk.see("stat -c %u view/theirs", whole(data, desk.home / "view", idmap)).output == "5000\n"
