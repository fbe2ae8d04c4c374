"""Files that appear whole or not at all: what is left when a process is killed, and what is taken away again."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jubako.errors import HostError, InputError
from jubako.verify.publishing import publish_files, publishing

MARK = b"<!-- a page -->"


def write(path: Path, content: bytes) -> None:
    with publishing(path, MARK, "page") as file:
        file.write(MARK + content)


def test_file_is_there_when_it_is_whole_and_has_no_name_before(tmp_path: Path) -> None:
    with publishing(tmp_path / "page", MARK, "page") as file:
        file.write(MARK)
        file.flush()
        assert os.listdir(tmp_path) == []
    assert (tmp_path / "page").read_bytes() == MARK
    assert os.listdir(tmp_path) == ["page"]


def test_file_of_the_kind_is_replaced_and_no_other(tmp_path: Path) -> None:
    write(tmp_path / "page", b"one")
    write(tmp_path / "page", b"two")
    assert (tmp_path / "page").read_bytes() == MARK + b"two"
    (tmp_path / "other").write_bytes(b"mine")
    with pytest.raises(InputError, match="is there already and no page"):
        write(tmp_path / "other", b"")
    assert sorted(os.listdir(tmp_path)) == ["other", "page"]


def test_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "page").symlink_to("far/page")
    write(tmp_path / "page", b"one")
    write(tmp_path / "page", b"two")
    assert (tmp_path / "page").is_symlink()
    assert (tmp_path / "far" / "page").read_bytes() == MARK + b"two"


def test_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "page", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "page").stat().st_mode & 0o777 == 0o640


def test_nothing_is_left_of_what_fails(tmp_path: Path) -> None:
    write(tmp_path / "page", b"one")
    with pytest.raises(ZeroDivisionError), publishing(tmp_path / "page", MARK, "page") as file:
        file.write(b"half")
        1 / 0  # noqa: B018
    assert os.listdir(tmp_path) == ["page"]
    assert (tmp_path / "page").read_bytes() == MARK + b"one"

    def fail() -> Iterator[tuple[str, bytes]]:
        yield "a", b"1"
        raise KeyError

    with pytest.raises(KeyError):
        publish_files(tmp_path / "images", fail())
    assert os.listdir(tmp_path) == ["page"]


def test_folder_that_is_not_there_is_the_hosts_fault(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be written: No such file or directory"):
        write(tmp_path / "none" / "page", b"")
    with pytest.raises(HostError, match="cannot be written: No such file or directory"):
        publish_files(tmp_path / "none" / "images", [])


KILLED = """
import os, signal, sys
from jubako.verify.publishing import publish_files, publishing
with publishing(sys.argv[1], b"x", "page") as file:
    file.write(b"x" * 100_000)
    file.flush()
    def files():
        yield "a", b"1"
        os.kill(os.getpid(), signal.SIGKILL)
    publish_files(sys.argv[2], files())
"""


def test_killed_process_leaves_no_file_and_its_directory_is_removed_by_the_next(tmp_path: Path) -> None:
    words = [sys.executable, "-c", KILLED, str(tmp_path / "page"), str(tmp_path / "images")]
    done = subprocess.run(words, check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".images.")
    assert publish_files(tmp_path / "images", [("b", b"2")]) == 1
    assert os.listdir(tmp_path) == ["images"]
    assert os.listdir(tmp_path / "images") == ["b"]


def test_leftover_is_removed_unless_somebody_writes_it_or_it_only_looks_like_one(tmp_path: Path) -> None:
    names = [".page.12.jubako", ".page.13.jubako", ".page.12", ".other.12.jubako", ".page.x.jubako"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with (tmp_path / ".page.13.jubako").open() as writing:
        fcntl.flock(writing, fcntl.LOCK_EX)
        write(tmp_path / "page", b"")
    assert set(os.listdir(tmp_path)) == {"page", *names} - {".page.12.jubako"}
    write(tmp_path / "page", b"")
    assert ".page.13.jubako" not in os.listdir(tmp_path)


NAMED = """
import errno, os, sys
from jubako.verify.publishing import publishing
whole = os.open
def refuse(path, flags, *others, **named):
    if flags & os.O_TMPFILE == os.O_TMPFILE:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")
    return whole(path, flags, *others, **named)
os.open = refuse
for content in (b"x1", b"x2"):
    with publishing(sys.argv[1], b"x", "page") as file:
        file.write(content)
        file.flush()
        print(sorted(name.replace(str(os.getpid()), "PID") for name in os.listdir(os.path.dirname(sys.argv[1]))))
"""


def test_file_system_without_unnamed_files_has_a_named_one_meanwhile(tmp_path: Path) -> None:
    """As such a file system answers; there is none to be had here."""
    words = [sys.executable, "-c", NAMED, str(tmp_path / "page")]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["['.page.PID.jubako']", "['.page.PID.jubako', 'page']"]
    assert (tmp_path / "page").read_bytes() == b"x2"
    assert os.listdir(tmp_path) == ["page"]


WITHOUT_PROC = """
import errno, os, sys
from jubako.verify.publishing import publishing
def refuse(*names, **others):
    raise OSError(errno.ENOENT, "No such file or directory")
os.link = refuse
with publishing(sys.argv[1], b"x", "page") as file:
    file.write(b"x" * 100_000)
"""


def test_file_that_cannot_be_given_a_name_is_copied_to_one_that_has_it(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_PROC, str(tmp_path / "page")], check=True)
    assert (tmp_path / "page").read_bytes() == b"x" * 100_000
    assert os.listdir(tmp_path) == ["page"]


def test_directory_that_another_process_has_made_meanwhile_is_left_alone(tmp_path: Path) -> None:
    def draw() -> Iterator[tuple[str, bytes]]:
        yield "a.png", b"mine"
        (tmp_path / "new").mkdir()
        (tmp_path / "new/b.png").write_bytes(b"theirs")

    with pytest.raises(InputError, match="new is there already and no empty directory"):
        publish_files(tmp_path / "new", draw())
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["b.png"]
