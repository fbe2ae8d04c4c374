"""Reading an upper directory, over real overlays: made by random programs, and held against a slow obvious reference
that walks the merged view and the lower directory and compares everything it can see."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jubako.errors import HostError
from jubako.kernel.mounts import MNT_DETACH, umount2
from jubako.kernel.overlay import Overlay, mount_overlay
from jubako.layers.change import Change
from jubako.layers.diff import read_changes
from jubako.layers.entry import LETTERS

pytestmark = pytest.mark.box

NAMES = ["a", "b", "new\nline", os.fsdecode(b"\xff\xfe"), ".wh.a"]
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
CONTENTS = st.sampled_from([b"", b"x", b"y", b"xx" * 3000])
MODES = st.sampled_from([0o644, 0o755, 0o700, 0o2755, 0o000])
STEPS = st.one_of(
    st.tuples(st.just("write"), PATHS, CONTENTS),
    st.tuples(st.just("append"), PATHS, CONTENTS),
    st.tuples(st.just("touch"), PATHS, st.sampled_from([0, 10**18])),
    st.tuples(st.just("mkdir"), PATHS, st.none()),
    st.tuples(st.just("remove"), PATHS, st.none()),
    st.tuples(st.just("chmod"), PATHS, MODES),
    st.tuples(st.just("attribute"), PATHS, CONTENTS.filter(lambda c: len(c) < 100)),
    st.tuples(st.just("symlink"), PATHS, st.sampled_from(NAMES)),
    st.tuples(st.just("fifo"), PATHS, st.none()),
    st.tuples(st.just("link"), PATHS, PATHS),
    st.tuples(st.just("move"), PATHS, PATHS),
    st.tuples(st.just("again"), PATHS, st.none()),
)
SEARCHES_FROM = 1000  # examples
PROGRAMS = st.lists(STEPS, max_size=12)


def perform(root: str, program: list[tuple[str, str, object]]) -> None:
    """Runs the steps that are possible; errors of the others are part of life."""
    for verb, path, argument in program:
        with contextlib.suppress(OSError, shutil.Error):
            VERBS[verb](f"{root}/{path}", argument, root)


def write(path: str, content: object, root: str) -> None:
    put(path, content, os.O_TRUNC)


def append(path: str, content: object, root: str) -> None:
    put(path, content, os.O_APPEND)


def put(path: str, content: object, how: int) -> None:
    assert isinstance(content, bytes)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | how)  # not waiting for the reader of a pipe
    with os.fdopen(fd, "wb") as file:
        file.write(content)


def touch(path: str, time_ns: object, root: str) -> None:
    assert isinstance(time_ns, int)
    os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)


def remove(path: str, _: object, root: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def chmod(path: str, mode: object, root: str) -> None:
    assert isinstance(mode, int)
    if not os.path.islink(path) and not (os.path.isdir(path) and mode == 0):
        os.chmod(path, mode)


def attribute(path: str, value: object, root: str) -> None:
    assert isinstance(value, bytes)
    os.setxattr(path, "user.test", value, follow_symlinks=False)


def again(path: str, _: object, root: str) -> None:
    """A directory removed and made again: opaque."""
    remove(path, None, root)
    os.mkdir(path)


VERBS: dict[str, Callable[[str, object, str], None]] = {
    "write": write,
    "append": append,
    "touch": touch,
    "mkdir": lambda path, _, root: os.mkdir(path),
    "remove": remove,
    "chmod": chmod,
    "attribute": attribute,
    "symlink": lambda path, target, root: os.symlink(str(target), path),
    "fifo": lambda path, _, root: os.mkfifo(path),
    "link": lambda path, other, root: os.link(path, f"{root}/{other}", follow_symlinks=False),
    "move": lambda path, other, root: os.rename(path, f"{root}/{other}"),
    "again": again,
}

Seen = tuple[int, object, tuple[int, ...], object]  # type, content, owner and mode, time and attributes


def snapshot(root: str, above: str = "") -> dict[str, Seen]:
    """All that can be seen of every path below `root`."""
    seen = {}
    for entry in os.scandir(f"{root}/{above}"):
        path = f"{above}/{entry.name}" if above else entry.name
        full = f"{root}/{path}"
        found = os.lstat(full)
        kind = stat.S_IFMT(found.st_mode)
        content: object = None
        rest: object = None
        mode = (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)
        if kind == stat.S_IFLNK:
            content, mode = os.readlink(full), mode[1:]
        elif kind == stat.S_IFREG:
            content = Path(full).read_bytes()
            rest = (found.st_mtime_ns, attributes_of(full))
        elif kind == stat.S_IFDIR:
            rest = attributes_of(full)
            seen.update(snapshot(root, path))
        seen[path] = (kind, content, mode, rest)
    return seen


def attributes_of(path: str) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path) if "overlay." not in name}


def below(paths: dict[str, Seen], path: str) -> list[str]:
    return [other for other in paths if other.startswith(path + "/")]


def check(changes: list[Change], lower: dict[str, Seen], merged: dict[str, Seen]) -> None:
    """Applied to the lower, the changes give the merged view; and none of them says more than is true."""
    assert changes == sorted(changes)
    result = dict(lower)
    for change in changes:
        path = change.path.removeprefix("/covered/")
        old, new = result.get(path), merged.get(path)
        if change.kind == "deleted":
            assert old is not None and new is None
            for gone in (path, *below(result, path)):
                del result[gone]
            continue
        assert new is not None
        assert (
            stat.S_IFMT(new[0])
            == {"f": stat.S_IFREG, "d": stat.S_IFDIR, "l": stat.S_IFLNK, "p": stat.S_IFIFO}[LETTERS[change.type]]
        )
        assert change.size_bytes == (len(new[1]) if isinstance(new[1], bytes) else 0)
        if change.kind == "added":
            assert old is None
        elif change.kind == "modified":
            assert old is not None and old[0] == new[0] and old[1] != new[1]
        elif change.kind == "metadata":
            assert old is not None and old[:2] == new[:2] and old != new
        else:
            assert old is not None and (old[0] != new[0] or below(result, path))
            for gone in below(result, path):
                del result[gone]
        result[path] = new
    assert result == merged


def is_real_root() -> bool:
    return os.geteuid() == 0 and Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


@contextlib.contextmanager
def overlay(root: str, *, rootless: bool) -> Iterator[str]:
    """An overlay over `root`/lower, at `root`/merged, with its upper at `root`/upper."""
    for name in ("upper", "work", "merged"):
        os.mkdir(f"{root}/{name}")
    mount_overlay(Overlay((f"{root}/lower",), f"{root}/upper", f"{root}/work", userxattr=rootless), f"{root}/merged")
    try:
        yield f"{root}/merged"
    finally:
        umount2(f"{root}/merged", MNT_DETACH)


def run_examples(examples: int) -> None:
    serial = iter(range(10**9))

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples < SEARCHES_FROM,  # `make soak` lets chance pick
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(before=PROGRAMS, inside=PROGRAMS)
    def examine(before: list[tuple[str, str, object]], inside: list[tuple[str, str, object]]) -> None:
        root = f"{os.getcwd()}/{next(serial)}"
        os.makedirs(f"{root}/lower")
        perform(f"{root}/lower", before)
        with overlay(root, rootless=not is_real_root()) as merged:
            perform(merged, inside)
            after = snapshot(merged)
        check(read_changes(f"{root}/upper", f"{root}/lower", "/covered"), snapshot(f"{root}/lower"), after)
        shutil.rmtree(root)

    examine()


def test_changes_of_random_programs_equal_what_walking_both_views_finds(in_namespace):
    in_namespace(lambda: run_examples(150))


@pytest.mark.soak
def test_changes_of_many_random_programs_equal_what_walking_both_views_finds(in_namespace):
    in_namespace(lambda: run_examples(5000))


def changes_of(lower: Callable[[str], None], inside: Callable[[str], None]) -> list[tuple[str, str, str]]:
    root = os.getcwd()
    os.mkdir("lower")
    lower(f"{root}/lower/")
    with overlay(root, rootless=not is_real_root()) as merged:
        inside(merged + "/")
    found = read_changes(f"{root}/upper", f"{root}/lower", "/covered")
    return [(change.path.removeprefix("/covered"), change.kind, LETTERS[change.type]) for change in found]


def fill(top: str) -> None:
    os.makedirs(top + "dir/inner")
    Path(top + "dir/file").write_text("1")
    Path(top + "dir/inner/leaf").write_text("2")
    Path(top + "plain").write_text("3")


ACL_NAME = "system.posix_acl_access"


def make_acl(gid: int) -> bytes:
    """An access ACL that goes with mode 0644: the owner, its group, the group `gid`, the mask, the others."""
    entries = ((1, 6, -1), (4, 4, -1), (8, 4, gid), (0x10, 4, -1), (0x20, 4, -1))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


CASES: dict[str, tuple[Callable[[str], object], list[tuple[str, str, str]]]] = {
    "created_then_removed": (lambda top: (Path(top + "x").touch(), os.unlink(top + "x")), []),
    "created_then_removed_in_a_directory": (
        lambda top: (Path(top + "dir/x").touch(), os.unlink(top + "dir/x")),
        [],
    ),
    "mode_changed_and_changed_back": (
        lambda top: (os.chmod(top + "plain", 0o600), os.chmod(top + "plain", 0o644)),
        [],
    ),
    "rewritten_with_the_same_bytes": (
        lambda top: Path(top + "plain").write_text("3"),
        [("/plain", "metadata", "f")],
    ),
    "edited_and_time_set_back": (
        lambda top: (
            found := os.stat(top + "plain"),
            Path(top + "plain").write_text("4"),
            os.utime(top + "plain", ns=(found.st_atime_ns, found.st_mtime_ns)),
        ),
        [("/plain", "modified", "f")],
    ),
    "attribute_set": (lambda top: os.setxattr(top + "plain", "user.x", b"1"), [("/plain", "metadata", "f")]),
    "attribute_of_a_directory_set": (
        lambda top: os.setxattr(top + "dir", "user.x", b"1"),
        [("/dir", "metadata", "d")],
    ),
    "acl_set": (lambda top: os.setxattr(top + "plain", ACL_NAME, make_acl(os.getgid())), [("/plain", "metadata", "f")]),
    "time_set": (lambda top: os.utime(top + "plain", ns=(1, 1)), [("/plain", "metadata", "f")]),
    "time_of_a_directory_set": (lambda top: os.utime(top + "dir", ns=(1, 1)), []),
    "directory_removed": (lambda top: shutil.rmtree(top + "dir"), [("/dir", "deleted", "d")]),
    "directory_removed_and_made_again": (
        lambda top: (shutil.rmtree(top + "dir"), os.mkdir(top + "dir"), Path(top + "dir/file").write_text("1")),
        [("/dir", "replaced", "d"), ("/dir/file", "added", "f")],
    ),
    "empty_directory_removed_and_made_again": (
        lambda top: (os.unlink(top + "dir/inner/leaf"), os.rmdir(top + "dir/inner"), os.mkdir(top + "dir/inner")),
        [("/dir/inner", "replaced", "d")],
    ),
    "file_for_a_directory": (
        lambda top: (shutil.rmtree(top + "dir"), Path(top + "dir").touch()),
        [("/dir", "replaced", "f")],
    ),
    "directory_for_a_file": (
        lambda top: (os.unlink(top + "plain"), os.mkdir(top + "plain"), Path(top + "plain/x").touch()),
        [("/plain", "replaced", "d"), ("/plain/x", "added", "f")],
    ),
    "hard_link_made": (lambda top: os.link(top + "plain", top + "other"), [("/other", "added", "f")]),
    "top_itself": (lambda top: os.chmod(top, 0o711), [("", "metadata", "d")]),
}


@pytest.mark.parametrize("case", CASES)
def test_changes_of_one_step_are_exactly_these(in_namespace, case):
    inside, expected = CASES[case]

    def act() -> None:
        os.umask(0o022)
        assert changes_of(fill, inside) == expected

    in_namespace(act)


def test_unreadable_upper_directory_is_read_and_keeps_its_mode(in_user_child, tmp_path_factory):
    def act() -> None:
        top = os.path.realpath(os.environ.get("TMPDIR", "/tmp")) + f"/diff-{os.getpid()}"
        os.makedirs(top + "/upper/shut/inner")
        os.mkdir(top + "/lower")
        Path(top + "/upper/shut/inner/x").touch()
        os.chmod(top + "/upper/shut/inner", 0)
        os.chmod(top + "/upper/shut", 0)
        try:
            changes = read_changes(top + "/upper", top + "/lower", "/")
            mode = os.stat(top + "/upper/shut").st_mode
        finally:
            os.chmod(top + "/upper/shut", 0o700)
            os.chmod(top + "/upper/shut/inner", 0o700)
            shutil.rmtree(top)
        assert [change.path for change in changes] == ["/shut", "/shut/inner", "/shut/inner/x"]
        assert stat.S_IMODE(mode) == 0

    in_user_child(act)


def test_directories_deeper_than_a_path_are_named_down_to_there(tmp_path):
    (tmp_path / "lower").mkdir()
    fd = os.open(tmp_path, os.O_RDONLY)
    os.mkdir("upper", dir_fd=fd)
    inner = os.open("upper", os.O_RDONLY, dir_fd=fd)
    for _ in range(50):
        os.mkdir("d" * 200, dir_fd=inner)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=inner)
        os.close(inner)
        inner = deeper
    os.close(inner)
    os.close(fd)
    changes = read_changes(str(tmp_path / "upper"), str(tmp_path / "lower"), "/p")
    assert [change.kind for change in changes] == ["added"] * len(changes)
    assert len(changes) == 21
    assert max(len(change.path) for change in changes) > 4096


@pytest.mark.parametrize("namespace", ["user", "trusted"])
def test_whiteout_by_attribute_is_a_deletion(in_namespace, namespace):
    def act() -> list[Change]:
        os.mkdir("lower")
        Path("lower/gone").write_text("old")
        os.mkdir("upper")
        Path("upper/gone").touch()
        Path("upper/never").touch()
        # Only real root can write, and see, trusted.*
        mark = f"{namespace if is_real_root() else 'user'}.overlay."
        os.setxattr("upper", mark + "opaque", b"x")
        for name in ("gone", "never"):
            os.setxattr(f"upper/{name}", mark + "whiteout", b"")
        return read_changes("upper", "lower", "/")

    assert in_namespace(act) == [Change("/gone", "deleted", "file")]


@pytest.mark.parametrize("userxattr", [None, True, False])
def test_marks_count_where_the_overlay_kept_its_own_only(in_namespace, userxattr):
    def act() -> list[Change]:
        for folder in ("lower/dir", "upper/dir"):
            os.makedirs(folder)
        for file in ("lower/dir/there", "lower/empty", "upper/empty"):
            Path(file).touch()
        os.utime("lower/empty", ns=(0, 0))
        os.setxattr("upper/dir", "user.overlay.opaque", b"y")
        os.setxattr("upper/empty", "user.overlay.whiteout", b"")
        return read_changes("upper", "lower", "/", userxattr=userxattr)

    said = {change.path: change.kind for change in in_namespace(act)}
    believed = {"/dir": "replaced", "/empty": "deleted"}
    assert said == ({"/empty": "metadata"} if userxattr is False else believed)


@pytest.mark.parametrize(("attribute", "said"), [("metacopy", "no content of its own"), ("redirect", "renamed inside")])
def test_redirects_and_metacopy_are_refused_by_name(in_namespace, attribute, said):
    def act() -> str:
        os.mkdir("lower")
        os.makedirs("upper/dir")
        for file in ("lower/file", "upper/file"):
            Path(file).write_text("content")
        where = "upper/dir" if attribute == "redirect" else "upper/file"
        os.setxattr(where, f"user.overlay.{attribute}", b"/elsewhere")
        with pytest.raises(HostError) as caught:
            read_changes("upper", "lower", "/covered")
        return caught.value.message

    message = in_namespace(act)
    assert said in message
    assert "/covered/" in message


def test_descriptors_serve_as_well_as_paths(tmp_path):
    (tmp_path / "lower").mkdir()
    (tmp_path / "upper").mkdir()
    (tmp_path / "upper" / "x").write_text("12")
    fds = [os.open(tmp_path / name, os.O_RDONLY) for name in ("upper", "lower")]
    try:
        assert read_changes(fds[0], fds[1], "/") == [Change("/x", "added", "file", 2)]
        assert os.fstat(fds[0])
    finally:
        for fd in fds:
            os.close(fd)
