"""NumPy arrays and archives: what counts as the same, exact numbers, and files that mean harm."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from jubako.verify import Tolerance

from .conftest import Compare

np = pytest.importorskip("numpy")  # after conftest has said how many threads

NEAR = Tolerance(relative=1e-9)


def npy(array: Any, *, pickled: bool = False) -> bytes:
    out = io.BytesIO()
    np.save(out, np.asarray(array), allow_pickle=pickled)
    return out.getvalue()


def npz(*, compress: bool = False, **arrays: Any) -> bytes:
    out = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(out, **arrays)
    return out.getvalue()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), id="order"),
        pytest.param(np.array([1, 2], ">i8"), np.array([1, 2], "<i8"), id="byte order"),
    ],
)
def test_how_an_array_is_stored_does_not_count(compared: Compare, one: Any, other: Any) -> None:
    found = compared("x.npy", npy(one), npy(other))
    assert (found.verdict, found.how, found.describe()) == ("same", "npy", "the same contents in other bytes")


def test_an_array_is_the_same_as_itself_with_nan_and_infinity(compared: Compare) -> None:
    one = np.array([[np.nan, np.inf], [-np.inf, -0.0]])
    assert compared("x.npy", npy(one), npy(np.asfortranarray(one))).verdict == "same"
    stamps = np.array([["NaT", "2010-01-01"], ["2010-01-02", "NaT"]], "M8[D]")
    assert compared("x.npy", npy(stamps), npy(np.asfortranarray(stamps))).verdict == "same"


BIG = 2**63 - 1


@pytest.mark.parametrize(
    ("one", "other", "sentence"),
    [
        ([[1, 2], [3, 4]], [[1, 2], [3, 5]], "[1, 1]: published 4, recomputed 5"),
        ([1.0, 2.0], [1.5, 2.5], "[0]: published 1.0, recomputed 1.5 (the first of 2)"),
        ([np.nan], [1.0], "[0]: published nan, recomputed 1.0"),
        ([-0.0], [0.0], "[0]: published -0.0, recomputed 0.0"),
        ([2**53 + 1], [2**53], "[0]: published 9007199254740993, recomputed 9007199254740992"),
        (np.float32([1]), np.float64([1]), "type of the array: published float32, recomputed float64"),
        ([[1, 2]], [[1], [2]], "shape of the array: published (1, 2), recomputed (2, 1)"),
        (3, 4, "the only element: published 3, recomputed 4"),
        (["a", "b"], ["a", "c"], '[1]: published "b", recomputed "c"'),
        (np.array([b"a"]), np.array([b"b"]), "[0]: published b'a', recomputed b'b'"),
        ([True], [False], "[0]: published True, recomputed False"),
        ([1 + 2j], [1 + 3j], "[0]j: published 2.0, recomputed 3.0"),
        (np.array(["2010-01-01"], "M8[D]"), np.array(["NaT"], "M8[D]"), "[0]: published 2010-01-01, recomputed NaT"),
        (
            np.array([(1, [1, 2])], [("x", "f8"), ("y", "i4", 2)]),
            np.array([(1, [1, 3])], [("x", "f8"), ("y", "i4", 2)]),
            "[0].y: published 2, recomputed 3",
        ),
        (np.array([b"ab"], "V2"), np.array([b"ac"], "V2"), "[0]: published b'ab', recomputed b'ac'"),
    ],
)
def test_first_difference_is_named(compared: Compare, one: Any, other: Any, sentence: str) -> None:
    found = compared("x.npy", npy(one), npy(other))
    assert (found.verdict, found.describe()) == ("different", sentence)


@pytest.mark.parametrize(
    ("one", "other", "tolerance", "verdict"),
    [
        ([1.0], [1.0 + 1e-10], NEAR, "within"),
        ([0.0], [1e-300], NEAR, "different"),
        ([0.0], [-0.0], NEAR, "within"),
        ([np.inf], [-np.inf], Tolerance(absolute=1e300), "different"),
        ([np.inf], [1e308], Tolerance(relative=1e300), "different"),
        ([np.nan], [np.nan], NEAR, "same"),
        ([BIG], [BIG - 1], Tolerance(absolute=1), "within"),
        ([BIG], [BIG - 2], Tolerance(absolute=1), "different"),
        ([BIG], [-BIG - 1], Tolerance(absolute=1), "different"),  # their difference is more than such a number holds
        (np.uint64([0]), np.uint64([2**64 - 1]), Tolerance(absolute=1), "different"),
        (np.int8([127]), np.int8([-128]), Tolerance(absolute=1), "different"),
        (np.float16([1]), np.float16([1.001]), Tolerance(absolute=0.01), "within"),
        (np.longdouble([1]), np.longdouble([1]) + np.longdouble(1e-18), NEAR, "within"),
        ([1 + 1j], [1 + 1.0000000001j], NEAR, "within"),
    ],
)
def test_tolerance_of_numbers(compared: Compare, one: Any, other: Any, tolerance: Tolerance, verdict: str) -> None:
    assert compared("x.npy", npy([one]), npy([other]), tolerance=tolerance).verdict == verdict


def test_numbers_within_and_beyond_are_counted_apart(compared: Compare) -> None:
    one = np.ones(100_000)
    other = one.copy()
    other[10:20] += 1e-12
    other[17] += 1e-11
    found = compared("x.npy", npy(one), npy(other), tolerance=NEAR)
    assert found.describe() == "10 numbers off by 1.1e-11 (1.1e-11 of it) at most, at [17]"
    other[70_000:] = 3
    found = compared("x.npy", npy(one), npy(other), tolerance=NEAR)
    assert (found.verdict, found.differing, found.within) == ("different", 30_000, 10)
    assert found.first is not None
    assert found.first.where == "[70000]"


def test_arrays_larger_than_a_piece_are_compared_whole(compared: Compare) -> None:
    one = np.zeros((3, 400_000))
    other = one.copy()
    other[2, 399_999] = 1
    found = compared("x.npy", npy(one), npy(other))
    assert found.describe() == "[2, 399999]: published 0.0, recomputed 1.0"
    found = compared("x.npy", npy(np.asfortranarray(one)), npy(np.asfortranarray(other)))
    assert found.describe() == "[2, 399999]: published 0.0, recomputed 1.0"


def test_archives_are_compared_array_by_array(compared: Compare) -> None:
    one, other = {"a": np.arange(3), "b": np.ones(2)}, {"b": np.ones(2), "a": np.arange(3)}
    assert compared("x.npz", npz(**one), npz(compress=True, **other)).verdict == "same"
    found = compared("x.npz", npz(**one), npz(**{**other, "b": np.array([1, 1.5])}))
    assert found.describe() == "b[1]: published 1.0, recomputed 1.5"
    found = compared("x.npz", npz(a=[1], b=[1]), npz(b=[1], c=[1]))
    assert found.describe() == 'array "a": published an array, recomputed nothing (the first of 2)'
    assert compared("x.npz", npz(a=[1], t=[1]), npz(a=[1], t=[2]), ignore=["t"]).describe() == "t is not compared"


class Harm:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("harm"),)


def test_objects_are_refused_and_never_unpickled(
    compared: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, other = np.array([Harm(), 1], object), np.array([Harm(), 2], object)
    for name, pair in (("x.npy", [npy(a, pickled=True) for a in (one, other)]), ("x.npz", [npz(a=one), npz(a=other)])):
        found = compared(name, *pair)
        assert (found.verdict, "Python objects" in found.reason) == ("cannot", True)
    assert not Path("harm").exists()


def with_head(head: str, version: int = 1) -> bytes:
    text = head.encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        with_head("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999, 9999999999)}"),
        with_head("{'descr': '<f8', 'fortran_order': False, 'shape': (-3,)}"),
        with_head("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000,)}"),  # and nothing after it
        with_head("__import__('os')"),
        with_head("(" * 60_000),
        with_head("(" * 200_000, version=2),
        with_head("{'descr': '<f8'}", version=3),
        with_head("{}", version=9),
        b"\x93NUMPY",
        b"no array",
    ],
)
def test_damaged_and_hostile_files_are_compared_as_bytes(compared: Compare, content: bytes) -> None:
    found = compared("x.npy", content, content + b"more")
    assert found.verdict == "different"
    assert f"compared as {found.how}: it is no" in found.describe()


def test_archive_that_claims_more_than_it_has_is_compared_as_bytes(compared: Compare) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.npy", npy(np.arange(1000))[:400])
    found = compared("x.npz", out.getvalue(), npz(a=np.arange(1000)))
    assert (found.verdict, found.how) == ("different", "bytes")
    assert compared("x.npz", b"PK\3\4 junk", npz(a=[1])).verdict == "different"


def test_memory_does_not_grow_with_an_array(tmp_path: Path, compared: Compare) -> None:
    import tracemalloc

    one = npy(np.zeros(3_000_000))
    other = bytearray(one)
    other[-1] = 1
    tracemalloc.start()
    found = compared("x.npy", one, bytes(other))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.first is not None
    assert found.first.where == "[2999999]"
    assert peak < 24_000_000 + 40_000_000  # what is handed over is 24 MB, and a piece of both with what is made of it


def test_without_numpy_it_cannot_be_told(compared: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "numpy", None)
    monkeypatch.delitem(__import__("sys").modules, "jubako.verify.arrays", raising=False)
    found = compared("x.npy", npy([1]), npy([2]))
    assert (found.verdict, found.reason.endswith("pip install 'jubako[numpy]'")) == ("cannot", True)
    assert compared("x.npy", b"a", b"a").verdict == "same"
