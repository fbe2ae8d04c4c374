"""Copying into and out of living boxes: with what belongs to files, and never through a link out of the box."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.errors import HostError, InputError

if TYPE_CHECKING:
    from tests.boxes.living.conftest import Nursery

pytestmark = pytest.mark.box


def make_tree() -> None:
    Path("tree/below").mkdir(parents=True)
    Path("tree/below/file").write_text("text")
    Path("tree/below/file").chmod(0o640)
    os.utime("tree/below/file", ns=(0, 1_000_000_000))
    Path("tree/link").symlink_to("/etc/passwd")
    os.mkfifo("tree/pipe")
    Path("tree/below").chmod(0o750)


def test_tree_comes_in_and_out_with_modes_times_and_links(nursery: Nursery) -> None:
    def use() -> tuple[str, list[object], tuple[str, ...]]:
        make_tree()
        box = nursery.create()
        refused = box.copy_in("tree", "/tmp/there")
        listing = nursery.read(box, "cd /tmp/there; stat -c '%a %Y %F' below below/file link; readlink link")
        box.copy_out("/tmp/there", "back")
        found = os.stat("back/below/file")
        entries = sorted(str(path) for path in Path("back").rglob("*"))
        mtime_s = found.st_mtime_ns // 10**9
        return listing, [stat.S_IMODE(found.st_mode), mtime_s, os.readlink("back/link"), entries], refused

    listing, back, refused = nursery.do(use)
    lines = listing.splitlines()
    assert lines[0].startswith("750 ")
    assert lines[1:] == ["640 1 regular file", lines[2], "/etc/passwd"]
    assert lines[2].endswith("symbolic link")
    assert back == [0o640, 1, "/etc/passwd", ["back/below", "back/below/file", "back/link"]]
    assert refused == ("tree/pipe: a named pipe, left out",)


def test_into_a_directory_goes_under_the_own_name_and_contents_with_a_slash(nursery: Nursery) -> None:
    def use() -> str:
        make_tree()
        box = nursery.create()
        nursery.read(box, "mkdir /tmp/into; echo old > /tmp/into/link")
        box.copy_in("tree", "/tmp/into")
        box.copy_in("tree/", "/tmp/into")
        return nursery.read(box, "cd /tmp/into; find . -type f -o -type l | sort; readlink link")

    assert nursery.do(use) == "./below/file\n./link\n./tree/below/file\n./tree/link\n/etc/passwd\n"


def test_links_in_the_box_lead_to_where_they_lead_inside(nursery: Nursery) -> None:
    def use() -> tuple[str, str, bool]:
        Path("secret").write_text("of the machine")
        home = os.getcwd()
        box = nursery.create()
        nursery.read(box, f"echo inside > secret; ln -s {home} /tmp/absolute; ln -s ../../../../..{home} /tmp/relative")
        box.copy_out("/tmp/absolute/secret", "one")
        box.copy_out("/tmp/relative/secret", "two")
        Path("new").write_text("new")
        box.copy_in("new", "/tmp/absolute/secret")
        return Path("one").read_text() + Path("two").read_text(), Path("secret").read_text(), os.path.exists("three")

    assert nursery.do(use) == ("inside\ninside\n", "of the machine", False)


def test_directory_exchanged_for_a_link_while_it_is_copied_does_not_lead_out(nursery: Nursery) -> None:
    def use() -> set[str]:
        Path("target").mkdir()
        Path("target/file").write_text("of the machine")
        box = nursery.create()
        swap = (
            "mkdir -p /tmp/tree/sub; echo inside > /tmp/tree/sub/file; echo swapping > target/file;"
            f"ln -s {os.getcwd()}/target /tmp/other; while :; do mv -T /tmp/tree/sub /tmp/aside;"
            "mv -T /tmp/other /tmp/tree/sub; mv -T /tmp/tree/sub /tmp/other; mv -T /tmp/aside /tmp/tree/sub; done"
        )
        nursery.read(box, "mkdir -p /tmp/tree/sub")
        seen = set()
        with box.start_program(["sh", "-c", swap]):
            for turn in range(60):
                try:
                    box.copy_out("/tmp/tree", f"out{turn}")
                except Exception as error:  # noqa: BLE001  what is named may be gone by then, and that is said
                    seen.add(type(error).__name__)
                for file in Path(f"out{turn}").rglob("file"):
                    seen.add(file.read_text())
        return seen

    assert nursery.do(use) <= {"inside\n", "swapping\n", "HostError", "InputError", ""}


def test_stopped_box_is_started_for_it_and_is_stopped_again(nursery: Nursery) -> None:
    def use() -> tuple[str, str]:
        box = nursery.create()
        nursery.read(box, "echo text > /tmp/file")
        box.stop()
        box.copy_out("/tmp/file", "file")
        return Path("file").read_text(), box.found.living.phase

    assert nursery.do(use) == ("text\n", "stopped")


def test_what_is_not_there_is_refused_by_name(nursery: Nursery) -> None:
    def use() -> list[str]:
        box = nursery.create(name="web")
        said = []
        for way, source, destination in (
            (box.copy_out, "/no/such", "here"),
            (box.copy_in, "missing", "/tmp"),
            (box.copy_in, "/etc/passwd", "/no/such/file"),
            (box.copy_in, "/etc/passwd", "/etc/passwd/"),
            (box.copy_in, "/etc/passwd", ""),
        ):
            with pytest.raises(InputError) as caught:
                way(source, destination)
            said.append(caught.value.message)
        return said

    assert nursery.do(use) == [
        "web:/no/such is not there",
        "missing is not there",
        "the directory of web:/no/such/file is not there",
        "web:/etc/passwd/ is no directory",
        "an empty path was given",
    ]


def test_tar_goes_out_and_comes_in_with_what_belongs_to_files(nursery: Nursery) -> None:
    def use() -> tuple[list[str], str]:
        make_tree()
        Path("tree/below/file").chmod(0o4640)
        box = nursery.create()
        box.copy_in("tree", "/tmp")
        stream = io.BytesIO()
        box.copy_out("/tmp/tree", stream)
        stream.seek(0)
        with tarfile.open(fileobj=stream) as tar:
            names = sorted(tar.getnames())
        stream.seek(0)
        nursery.read(box, "mkdir /tmp/again")
        box.copy_in(stream, "/tmp/again")
        return names, nursery.read(box, "cd /tmp/again/tree; stat -c '%a %Y' below/file; cat below/file; readlink link")

    names, again = nursery.do(use)
    assert names == ["tree", "tree/below", "tree/below/file", "tree/link"]
    assert again == "640 1\ntext/etc/passwd\n"


@pytest.mark.parametrize("attack", ["up", "through a link", "hard link out"])
def test_tar_whose_names_lead_out_is_refused_and_nothing_is_written_there(nursery: Nursery, attack: str) -> None:
    def use() -> tuple[str, str]:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            if attack == "up":
                add(tar, "../out", b"x")
            elif attack == "hard link out":
                link = tarfile.TarInfo("copy")
                link.type, link.linkname = tarfile.LNKTYPE, "../../etc/passwd"
                tar.addfile(link)
            else:
                link = tarfile.TarInfo("here")
                link.type, link.linkname = tarfile.SYMTYPE, "/tmp/other"
                tar.addfile(link)
                add(tar, "here/out", b"x")
        stream.seek(0)
        box = nursery.create()
        nursery.read(box, "mkdir -p /tmp/into /tmp/other")
        with pytest.raises((InputError, HostError)) as caught:
            box.copy_in(stream, "/tmp/into")
        return str(caught.value), nursery.read(box, "ls /tmp/other; ls /tmp/out /tmp/into/copy 2>/dev/null; true")

    said, left = nursery.do(use)
    assert left == ""
    assert "leads out" in said or "symbolic links" in said


def test_what_is_no_tar_is_refused(nursery: Nursery) -> None:
    def use() -> str:
        box = nursery.create()
        with pytest.raises(InputError) as caught:
            box.copy_in(io.BytesIO(b"no archive" * 100), "/tmp")
        return caught.value.message

    assert nursery.do(use).startswith("what came is no tar archive: ")


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
