"""Files of maps: what is saved is loaded; what is damaged, hostile or something else is refused in a sentence."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.attention import Maps
from jubako.errors import HostError, InputError
from jubako.verify import compare

from .conftest import causal_maps, weights_of


@pytest.mark.parametrize(
    "maps",
    [
        causal_maps(),
        Maps(weights_of(1, 1, 1, 1)),
        Maps(weights_of(2, 1, 2, 3).astype(np.float64), ["a", "\ud800"], ["", "\0", "日"], ["x", "y"], ["h"], "\u202e"),
        Maps(weights_of(2, 2).astype(">f4").astype(np.float32), is_difference=True),
        Maps(np.asfortranarray(weights_of(2, 3, 4, 5)), masked=np.ones((2, 1, 4, 5), bool)),
        Maps([[np.nan, np.inf, -0.0]]),
    ],
)
def test_what_is_saved_is_loaded(maps: Maps, tmp_path: Path) -> None:
    maps.save(tmp_path / "maps.npz")
    assert Maps.load(tmp_path / "maps.npz") == maps


def test_same_maps_are_the_same_bytes_and_replace_those_of_before(tmp_path: Path, maps: Maps) -> None:
    path = tmp_path / "maps.npz"
    maps.save(path)
    before = path.read_bytes()
    maps.select([0]).save(path)
    assert path.read_bytes() != before
    maps.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["maps.npz"]


def test_file_is_an_archive_that_others_read(tmp_path: Path, maps: Maps) -> None:
    maps.save(tmp_path / "maps.npz")
    with np.load(tmp_path / "maps.npz") as archive:
        assert np.array_equal(archive["weights"], maps.weights)
    weights = maps.weights.copy()
    weights[1, 1, 1, 1] = 0.25
    Maps(weights, maps.queries, title=maps.title, masked=maps.masked).save(tmp_path / "other.npz")
    found = compare(str(tmp_path / "maps.npz"), str(tmp_path / "other.npz"))
    assert found.first is not None
    assert found.first.where == "weights[1, 1, 1, 1]"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archive_with_weights_alone_is_a_file_of_maps(save: Any, tmp_path: Path) -> None:
    weights = weights_of(2, 3, 4, 5).astype(">f8")
    save(tmp_path / "by-hand.npz", weights=np.asfortranarray(weights), something=np.array(["else"]))
    assert Maps.load(tmp_path / "by-hand.npz") == Maps(weights.astype(np.float64))


def archive(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, content in members.items():
            made.writestr(f"{name}.npy", content)
    return file.getvalue()


def array(content: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(content), allow_pickle=True)
    return file.getvalue()


def about(text: str) -> bytes:
    return array(np.frombuffer(text.encode(), np.uint8))


WEIGHTS = array(weights_of(1, 1, 2, 2))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "File is not a zip file"),
        (b"PK\x03\x04 no", "File is not a zip file"),
        (archive(other=WEIGHTS), "it has no array 'weights'"),
        (archive(weights=b""), "it is no array: EOF"),
        (archive(weights=WEIGHTS[:-1]), "it is no whole array: it ends too early"),
        (archive(weights=WEIGHTS + b"x"), "'weights.npy' is longer than its shape (1, 1, 2, 2)"),
        (archive(weights=array([object()])), "it holds Python objects, which would have to be unpickled"),
        (archive(weights=array([["a"]])), "weights are of type <U1"),
        (archive(weights=array(np.zeros(3))), "weights have 1 axes (3,)"),
        (archive(weights=WEIGHTS, masked=array(np.ones((2, 2)))), "masked is of type float64"),
        (archive(weights=WEIGHTS, masked=array(np.ones(9, bool))), "masked has shape (9,)"),
        (archive(weights=WEIGHTS, about=array([1.0])), "what it says of itself is of type float64"),
        (archive(weights=WEIGHTS, about=about("{")), "what it says of itself is no JSON"),
        (archive(weights=WEIGHTS, about=about("[" * 100_000)), "what it says of itself is no JSON"),
        (archive(weights=WEIGHTS, about=about("[]")), "it does not say that it is of the schema jubako.maps/1"),
        (archive(weights=WEIGHTS, about=about('{"schema": "jubako.maps/2"}')), "it does not say that it is of"),
        (
            archive(weights=WEIGHTS, about=about('{"schema": "jubako.maps/1", "queries": ["a"]}')),
            "there are 1 tokens of queries for 2 rows of the maps",
        ),
        (
            archive(weights=WEIGHTS, about=about('{"schema": "jubako.maps/1", "queries": {"a": 1}, "title": 3}')),
            "there are 1 tokens of queries",
        ),
        (archive(weights=WEIGHTS, about=about('{"schema": "jubako.maps/1", "title": 3}')), "the title is no text"),
        (WEIGHTS, "File is not a zip file"),
    ],
)
def test_what_is_no_file_of_maps_is_refused_in_a_sentence(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "maps.npz"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        Maps.load(path)
    assert str(caught.value).startswith(f"{path} is no file of maps: {why}")
    assert "\n" not in str(caught.value)


def test_file_that_would_unpack_to_too_much_is_refused_by_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f4", "fortran_order": False, "shape": (1, 1, 1 << 16, 1 << 15)}
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made:
        made.writestr("weights.npy", head.getvalue() + bytes(1 << 20))
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # what the two heads say of its size
        at = content.index(mark) + offset
        content[at : at + 4] = (0xFFFF_FFF0).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"it would unpack to 4,294,967,280 bytes|is more than|no file of maps"):
        Maps.load(path)


def test_member_that_says_it_is_larger_than_the_file_is_refused(tmp_path: Path) -> None:
    content = bytearray(archive(weights=WEIGHTS))
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = (1 << 30).to_bytes(4, "little")
    (tmp_path / "maps.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"it says that 'weights' has 1,073,741,824 bytes, and has \d+ in all"):
        Maps.load(tmp_path / "maps.npz")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "maps.npz"
    causal_maps().save(path)
    return path.read_bytes()


@given(st.data())
def test_damaged_file_is_loaded_as_it_was_or_refused(
    tmp_path_factory: pytest.TempPathFactory, good: bytes, data: st.DataObject
) -> None:
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        match data.draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip":
                bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
            case "cut":
                at = data.draw(st.integers(0, len(bad) - 2))
                del bad[at : at + data.draw(st.integers(1, 64))]
            case "insert":
                at = data.draw(st.integers(0, len(bad)))
                bad[at:at] = data.draw(st.binary(max_size=8))
        if len(bad) < 2:
            break
    path = tmp_path_factory.getbasetemp() / "bad.npz"
    path.write_bytes(bad)
    try:
        found = Maps.load(path)
    except InputError as error:
        assert str(error).startswith(f"{path} is no file of maps: ")
    else:
        assert np.array_equal(found.weights, causal_maps().weights)


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"maps\.npz cannot be read: No such file or directory"):
        Maps.load(tmp_path / "maps.npz")
    with pytest.raises(InputError, match="is no regular file"):
        Maps.load(tmp_path)


def test_file_of_something_else_is_not_replaced(tmp_path: Path, maps: Maps) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt is there already and no file of maps, so it is not replaced"):
        maps.save(path)
    assert path.read_text() == "mine"
    with pytest.raises(InputError, match="is no file that a file of maps could replace"):
        maps.save(tmp_path)
    with pytest.raises(HostError, match=r"none/maps\.npz cannot be written: No such file or directory"):
        maps.save(tmp_path / "none/maps.npz")
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is no regular file"):
        Maps.load(tmp_path / "pipe")
