"""Files, links and directories; compression; what nothing is known of; what cannot be compared."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from pathlib import Path

import pytest

from jubako.errors import InputError
from jubako.verify import File, Findings, Incomparable, Rules, comparator, compare
from jubako.verify.comparators import _registered
from jubako.verify.compare import worst

from .conftest import Compare


@pytest.fixture(autouse=True)
def own_comparators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jubako.verify.comparators._registered", dict(_registered))


@pytest.mark.parametrize("name", ["x", "x.csv", "x.json", "x.npy", "x.npz", "x.parquet", "x.csv.gz", "x.txt"])
@pytest.mark.parametrize("content", [b"", b"\x93\0", b"text\n"])
def test_the_same_bytes_are_the_same_whatever_they_are(compared: Compare, name: str, content: bytes) -> None:
    found = compared(name, content, content)
    assert (found.verdict, found.how, found.describe()) == ("same", "bytes", "")


@pytest.mark.parametrize(
    ("name", "published", "recomputed", "sentence"),
    [
        ("x", "one\ntwo\n", "one\ntoo\n", 'line 2, byte 2: published "two\\n", recomputed "too\\n"'),
        ("x.txt", "one\r\n", "one\n", 'line 1, byte 4: published "one\\r\\n", recomputed "one\\n"'),
        ("x.txt", "one\n", "one", 'line 1, byte 4: published "one\\n", recomputed "one"'),
        ("x.txt", "one\n", "one\ntwo\n", 'line 2, byte 1: published nothing, recomputed "two\\n"'),
        ("x.txt", b"\xef\xbb\xbfa", "a", 'line 1, byte 1: published "\ufeffa", recomputed "a"'),
        ("x", b"\0" * 9 + b"ab", b"\0" * 9 + b"ac", r"byte 10: published b'"),
        ("x", b"\0\1", b"\0\1\2", r"byte 2: published the end, recomputed b'\x00\x01\x02'"),
    ],
)
def test_what_nothing_is_known_of_is_compared_as_text_or_bytes(
    compared: Compare, name: str, published: str, recomputed: str, sentence: str
) -> None:
    found = compared(name, published, recomputed)
    assert (found.verdict, found.differing) == ("different", None)
    assert found.describe().startswith(sentence)


def test_first_difference_deep_in_a_large_file_is_found(compared: Compare) -> None:
    large = bytearray(os.urandom(1 << 20))
    other = bytearray(large)
    other[700_001] ^= 1
    large[0] = other[0] = 0
    first = compared("x", bytes(large), bytes(other)).first
    assert first is not None
    assert first.where == "byte 700001"
    line = "x" * 200_000
    found = compared("x.txt", f"{line}a\n", f"{line}b\n")
    assert found.first is not None
    assert found.first.where == "line 1, byte 200001"


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_compressed_files_are_compared_by_what_they_hold(compared: Compare, ending: str, pack: object) -> None:
    assert callable(pack)
    one, other = pack(b"a,b\n1,2\n"), pack(b"a,b\n1,3\n")
    assert compared(f"x.csv.{ending}", one, pack(b"a,b\r\n1,2\r\n")).verdict == "same"
    found = compared(f"x.csv.{ending}", one, other)
    assert found.describe() == 'row 2, column 2 (b): published "2", recomputed "3"'
    assert compared(f"x.bin.{ending}", pack(b"\0a"), pack(b"\0b")).describe().startswith("byte 1: ")
    cut = compared(f"x.csv.{ending}", one[:-9], other)
    assert (cut.verdict, cut.how) == ("different", "bytes")
    assert "cannot be decompressed" in cut.describe()


def test_header_times_of_gzip_do_not_count(compared: Compare) -> None:
    one, other = (gzip.compress(b"\0 content", mtime=mtime) for mtime in (1, 2))
    found = compared("x.bin.gz", one, other)
    assert (found.verdict, found.describe()) == ("same", "the same contents in other bytes")


def test_directories_are_compared_entry_by_entry(tmp_path: Path) -> None:
    for side in ("a", "b"):
        (tmp_path / side / "below").mkdir(parents=True)
        (tmp_path / side / "x.json").write_text('{"n": 1}')
        (tmp_path / side / "below/y.csv").write_text("n\n1\n")
        (tmp_path / side / "link").symlink_to("x.json")
    paths = str(tmp_path / "a"), str(tmp_path / "b")
    assert (compare(*paths).verdict, compare(*paths).how) == ("same", "directory")
    (tmp_path / "b/below/y.csv").write_text("n\n2\n")
    found = compare(*paths)
    assert (found.verdict, found.differing) == ("different", 1)
    assert found.describe() == 'below/y.csv: row 2, column 1 (n): published "1", recomputed "2"'
    (tmp_path / "b/x.json").unlink()
    (tmp_path / "b/x.json").mkdir()
    assert compare(*paths).describe() == "x.json: published a file, recomputed a directory (the first of 2)"
    (tmp_path / "b/link").unlink()
    assert compare(*paths).describe() == "link: published a symbolic link, recomputed nothing (the first of 3)"
    (tmp_path / "b/link").symlink_to("elsewhere")
    assert "published x.json, recomputed elsewhere" in compare(*paths).describe()


def test_a_path_without_anything_is_a_difference(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    found = compare(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (found.verdict, found.describe()) == ("different", "published a file, recomputed nothing")


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    for side in ("a", "b"):
        os.mkfifo(tmp_path / side)
    found = compare(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (found.verdict, found.reason) == ("cannot", "it is something that is no file")


def test_worst_verdict_stands_for_all() -> None:
    assert worst(["same", "within"]) == "within"
    assert worst(["cannot", "within", "same"]) == "cannot"
    assert worst(["cannot", "different"]) == "different"
    assert worst([]) == "same"


def compare_lengths(published: File, recomputed: File, findings: Findings) -> None:
    with published.open() as one, recomputed.open() as other:
        findings.numbers(len(one.read()), len(other.read()), lambda: "the length")


def test_own_comparator_is_found_by_the_longest_ending(compared: Compare) -> None:
    comparator(".len")(compare_lengths)

    @comparator(".special.len", ".other")
    def refuse(published: File, recomputed: File, findings: Findings) -> None:
        raise Incomparable("not today")

    found = compared("x.len", "abc", "abcd")
    assert (found.how, found.describe()) == ("compare_lengths", "the length: published 3, recomputed 4")
    assert compared("x.LEN.gz", gzip.compress(b"abc"), gzip.compress(b"abd")).verdict == "same"
    assert compared("x.special.len", "abc", "abcd").reason == "not today"


def test_rules_choose_a_comparator_by_the_name_of_the_file(compared: Compare) -> None:
    pair = "a,b\n1,2\n", "a,b\r\n1,2\r\n"
    assert compared("x.dat", *pair).verdict == "different"
    assert compared("x.dat", *pair, comparators={"*.dat": "csv"}).verdict == "same"
    assert compared("x.csv", *pair, comparators={"x.*": "bytes"}).verdict == "different"
    assert compared("x.csv", "abc", "abd", comparators={"*": compare_lengths}).verdict == "same"


def test_own_comparator_that_fails_decides_nothing(compared: Compare) -> None:
    def broken(published: File, recomputed: File, findings: Findings) -> None:
        raise KeyError("x")

    found = compared("x.dat", "a", "b", comparators={"*": broken})
    assert (found.verdict, found.reason) == ("cannot", "broken raised KeyError: 'x'")


def test_unknown_kind_and_no_ending_are_refused(tmp_path: Path) -> None:
    for side in ("a", "b"):
        (tmp_path / side).write_text(side)
    with pytest.raises(InputError, match="there is no comparator called 'cvs'"):
        compare(str(tmp_path / "a"), str(tmp_path / "b"), Rules(comparators={"*": "cvs"}))
    for wrong in ((), ("",)):
        with pytest.raises(InputError, match="takes endings of file names"):
            comparator(*wrong)
