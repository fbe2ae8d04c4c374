"""Digests of content: what counts, and when a remembered one is believed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jubako.flow.fingerprints import content_digest
from jubako.flow.fingerprints.content_digest import ContentDigests

LATER_S = 4e9


def digests(known: dict[str, tuple[str, str]] | None = None, wall_s: float = LATER_S) -> ContentDigests:
    return ContentDigests((known or {}).get, lambda: wall_s)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were really read."""
    files: list[str] = []
    digest_file: Callable[[str], str] = content_digest._digest_file

    def noted(path: str) -> str:
        files.append(os.path.basename(path))
        return digest_file(path)

    monkeypatch.setattr(content_digest, "_digest_file", noted)
    return files


def test_digest_is_of_the_content_and_of_nothing_else(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("same")
    (tmp_path / "c").write_text("other")
    (tmp_path / "link").symlink_to("a")
    os.chmod(tmp_path / "b", 0o600)
    take = digests().take
    found = [take(str(tmp_path / name)) for name in ("a", "b", "link", "c", "none", "a/none")]
    assert found[0] == found[1] == found[2] != found[3]
    assert found[4:] == ["", ""]


def make_tree(top: Path) -> Path:
    (top / "below").mkdir(parents=True)
    (top / "below/x").write_text("1")
    (top / "y").write_text("2")
    (top / "link").symlink_to("y")
    return top


def test_digest_of_a_directory_is_of_all_its_entries(tmp_path: Path) -> None:
    one, other = make_tree(tmp_path / "one"), make_tree(tmp_path / "other")
    take = digests().take
    before = take(str(one))
    assert before == take(str(other))
    changes: list[Callable[[], object]] = [
        lambda: (other / "below/x").write_text("3"),
        (other / "new").touch,
        lambda: (other / "new").rename(other / "newer"),
        (other / "newer").unlink,  # and all is as it was after the first change
        (other / "empty").mkdir,
        (other / "link").unlink,
        lambda: (other / "link").symlink_to("elsewhere"),
    ]
    seen = {before}
    for change in changes:
        change()
        seen.add(digests().take(str(other)))
    assert len(seen) == 7


def test_content_of_neighbours_is_not_mixed_up(tmp_path: Path) -> None:
    for name, texts in (("one", ("ab", "c")), ("other", ("a", "bc"))):
        (tmp_path / name).mkdir()
        for file, text in zip("xy", texts, strict=True):
            (tmp_path / name / file).write_text(text)
    assert digests().take(str(tmp_path / "one")) != digests().take(str(tmp_path / "other"))


def test_digest_is_remembered_until_the_file_changes(tmp_path: Path, read: list[str]) -> None:
    file = tmp_path / "a"
    file.write_text("one")
    first = digests()
    before = first.take(str(file))
    first.take(str(file))
    again = digests(first.new)
    assert (again.take(str(file)), again.new, read) == (before, {}, ["a"])
    times = os.stat(file)
    file.write_text("two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as if it had not been touched
    assert digests(first.new).take(str(file)) != before
    assert read == ["a", "a"]


def test_digest_of_what_was_just_changed_is_not_remembered(tmp_path: Path, read: list[str]) -> None:
    file = tmp_path / "a"
    file.write_text("one")
    now = digests(wall_s=os.stat(file).st_mtime + 1)
    now.take(str(file))
    now.take(str(file))
    assert (read, now.new) == (["a", "a"], {})


def test_what_cannot_be_read_is_an_error() -> None:
    with pytest.raises(OSError, match="Is a directory"):
        content_digest._digest_file("/")
