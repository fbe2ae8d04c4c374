from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.kernel.files import statx
from jubako.kernel.filesystems import tmpfs
from jubako.kernel.mount_table import (
    Mount,
    find_mount,
    format_mountinfo,
    mounts_below,
    parse_mountinfo,
    read_mount_table,
    unescape,
)
from jubako.kernel.mounts import attach
from jubako.kernel.syscalls import AT_FDCWD

if TYPE_CHECKING:
    from tests.conftest import Runner

NUMBERS = st.integers(0, 2**31)
WORDS = st.text(st.characters(exclude_categories=["Cs", "Zs", "Cc"]), max_size=20).filter(
    lambda word: word not in ("-", "unbindable") and ":" not in word
)
NAMES = st.binary(min_size=1, max_size=30).filter(lambda raw: b"\0" not in raw).map(os.fsdecode)
MOUNTS = st.builds(
    Mount,
    id=NUMBERS,
    parent_id=NUMBERS,
    device=st.builds(os.makedev, st.integers(0, 4095), st.integers(0, 2**20 - 1)),
    root=NAMES,
    mount_point=NAMES,
    options=WORDS,
    fstype=NAMES,
    source=st.one_of(st.just(""), NAMES),
    super_options=WORDS,
    peer_group=NUMBERS,
    master=NUMBERS,
    dominant=NUMBERS,
    unbindable=st.booleans(),
    unknown_fields=st.lists(WORDS.map(lambda word: f"new:{word}"), max_size=2).map(tuple),
)


@given(st.lists(MOUNTS, max_size=5))
def test_parse_after_format_gives_the_mounts_back(table: list[Mount]) -> None:
    assert parse_mountinfo(format_mountinfo(table)) == table


def test_format_after_parse_gives_the_kernels_text_back() -> None:
    text = os.fsdecode(Path("/proc/self/mountinfo").read_bytes())
    assert format_mountinfo(parse_mountinfo(text)) == text


def test_parse_reads_every_field() -> None:
    line = (
        r"36 35 98:0 /mnt\0401 /a\012b\134 rw,noatime master:1 shared:7 propagate_from:3 unbindable new:x"
        r" - ext3 /dev/ro\040ot rw,data=\054"
    )
    (mount,) = parse_mountinfo(line + "\n")
    assert mount == Mount(
        id=36,
        parent_id=35,
        device=os.makedev(98, 0),
        root="/mnt 1",
        mount_point="/a\nb\\",
        options="rw,noatime",
        fstype="ext3",
        source="/dev/ro ot",
        super_options=r"rw,data=\054",
        peer_group=7,
        master=1,
        dominant=3,
        unbindable=True,
        unknown_fields=("new:x",),
    )
    assert mount.propagation == "shared,slave,unbindable"


def test_parse_of_names_with_odd_line_ends_keeps_lines_together() -> None:
    text = "1 0 0:1 / /a\rb\x0b\x85 rw - tmpfs  rw\n"
    (mount,) = parse_mountinfo(text)
    assert mount.mount_point == "/a\rb\x0b\x85"
    assert mount.source == ""


@pytest.mark.parametrize("line", ["nonsense", "1 0 0:1 / /a rw tmpfs x rw", "x 0 0:1 / /a rw - tmpfs x rw"])
def test_parse_of_a_broken_line_names_it(line: str) -> None:
    with pytest.raises(ValueError, match="not a line of mountinfo") as caught:
        parse_mountinfo(line)
    assert repr(line) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "super_options", "expected"),
    [("rw", "rw", False), ("ro,nosuid", "rw", True), ("rw", "ro", True), ("rw,errors=remount-ro", "rw", False)],
)
def test_mount_is_read_only_by_itself_or_by_its_file_system(options: str, super_options: str, expected: bool) -> None:
    (mount,) = parse_mountinfo(f"1 0 0:1 / /a {options} - ext4 x {super_options}")
    assert mount.is_read_only is expected


def test_mount_of_an_unlinked_file_is_deleted() -> None:
    kept, gone = parse_mountinfo("1 0 0:1 /f /a rw - ext4 x rw\n2 0 0:1 /f//deleted /b rw - ext4 x rw\n")
    assert (kept.is_deleted, gone.is_deleted) == (False, True)


def test_unescape_of_bytes_beyond_ascii_restores_the_name() -> None:
    assert unescape(r"caf\303\251\377") == "caf\u00e9\udcff"


def table_of(*points: str) -> list[Mount]:
    """Mounts at these points, each made in its turn; "id<parent:point"."""
    lines = []
    for point in points:
        ids, _, path = point.partition(":")
        own, _, parent = ids.partition("<")
        lines.append(f"{own} {parent} 0:{own} / {path} rw - tmpfs t{own} rw")
    return parse_mountinfo("\n".join(lines))


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/", 1), ("/a", 2), ("/ab", 1), ("/a/b/c", 3), ("/a/bc", 2), ("/s", 5), ("/s/x", 5), ("/h/below/x", 6)],
)
def test_find_mount_takes_the_one_a_walk_ends_on(path: str, expected: int) -> None:
    table = table_of("1<0:/", "2<1:/a", "3<2:/a/b", "4<1:/s", "5<4:/s", "7<1:/h/below", "6<1:/h")
    found = find_mount(table, path)
    assert found is not None
    assert found.id == expected


def test_find_mount_on_the_root_keeps_the_process_root() -> None:
    found = find_mount(table_of("1<0:/", "2<1:/"), "/etc")
    assert found is not None
    assert found.id == 1


def test_find_mount_in_a_table_without_root_finds_nothing() -> None:
    assert find_mount(table_of("2<1:/a"), "/b") is None


def test_mounts_below_leaves_out_the_place_itself_and_neighbours() -> None:
    table = table_of("1<0:/", "2<1:/a", "3<2:/a/b", "4<1:/ab")
    assert [mount.id for mount in mounts_below(table, "/a")] == [3]
    assert [mount.id for mount in mounts_below(table, "/")] == [2, 3, 4]


@pytest.mark.box
def test_find_mount_agrees_with_the_kernel_on_stacks_and_hidden_mounts(in_namespace: Runner) -> None:
    def compare() -> list[tuple[str, int, int]]:
        hostile = "n\nl \\040\udcff"
        for path in ("a/b/c", f"{hostile}/x", "h/below"):
            os.makedirs(path)
        attach(tmpfs(), "a/b")
        os.makedirs("a/b/c")
        attach(tmpfs(), "a/b/c")
        attach(tmpfs(), hostile)
        attach(tmpfs(), hostile)
        attach(tmpfs(), "h/below")
        attach(tmpfs(), "h")
        os.makedirs("h/below")
        attach(tmpfs(), "/")
        table = read_mount_table()
        rows = []
        for path in ("", "a", "a/b", "a/b/c", hostile, "h", "h/below"):
            full = os.path.normpath(f"/mnt/{path}")
            found = find_mount(table, full)
            rows.append((full, found.id if found else 0, statx(AT_FDCWD, full).mnt_id))
        root = find_mount(table, "/")
        return [*rows, ("/", root.id if root else 0, statx(AT_FDCWD, "/").mnt_id)]

    rows = in_namespace(compare)
    assert [found for _, found, _ in rows] == [actual for _, _, actual in rows]
    assert len({found for _, found, _ in rows}) == 6


@given(st.one_of(st.text(), st.text(alphabet="0123456789 :-/\\\nrwtmpfs")))
def test_parse_of_any_text_is_mounts_or_names_the_line(text: str) -> None:
    try:
        table = parse_mountinfo(text)
    except ValueError as error:
        assert "not a line of mountinfo" in str(error)
    else:
        assert parse_mountinfo(format_mountinfo(table)) == table


@given(st.lists(MOUNTS, min_size=1, max_size=3), st.data())
def test_parse_of_a_damaged_table_is_mounts_or_names_the_line(table: list[Mount], data: st.DataObject) -> None:
    text = format_mountinfo(table)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 8)))
    damaged = text[:start] + data.draw(st.text(max_size=4)) + text[end:]
    try:
        parse_mountinfo(damaged)
    except ValueError as error:
        assert "not a line of mountinfo" in str(error)


@pytest.mark.parametrize(
    ("line", "field", "expected"),
    [
        ("1 0 0:4 net:[4026531840] /run/n rw - nsfs nsfs rw", "root", "net:[4026531840]"),
        ("1 0 0:1 /a//deleted /b rw - tmpfs x rw", "root", "/a//deleted"),
        (r"1 0 0:1 / /a\040b\011c\012d\134e\043f rw - tmpfs x rw", "mount_point", "/a b\tc\nd\\e#f"),
        ("1 0 0:1 / / rw - fuse.sshfs me@host:/a rw,user_id=0", "fstype", "fuse.sshfs"),
        ("1 0 0:1 / / rw a:1 b c:d:e - tmpfs x rw", "unknown_fields", ("a:1", "b", "c:d:e")),
        ("1 0 0:1 / / rw master:3 propagate_from:2 - tmpfs x rw", "propagation", "slave"),
        ("1 0 0:1 / / rw - tmpfs  rw", "source", ""),
        ("1 0 0:1 / / rw - cifs //s/d rw,domain=my domain", "super_options", "rw,domain=my domain"),
        ("1 0 0:1 / / rw shared:1 - tmpfs - rw", "source", "-"),
    ],
)
def test_parse_reads_every_form_of_a_field(line: str, field: str, expected: object) -> None:
    (mount,) = parse_mountinfo(line)
    assert getattr(mount, field) == expected
    assert format_mountinfo([mount]).rstrip("\n") == line


@pytest.mark.parametrize(
    "line",
    [
        "1 0 0:1 / / rw - tmpfs x",
        "1 0 99999999999999999999:1 / / rw - tmpfs x rw",
        "1 0 1 / / rw - tmpfs x rw",
        "1 0 0:1 / / rw shared:x - tmpfs x rw",
        "1 0 0:1 / / -",
    ],
)
def test_parse_of_what_no_kernel_writes_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a line of mountinfo"):
        parse_mountinfo(line)
