"""Arrays from files of strangers: read as they were saved, in this machine's order, or refused in a sentence."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jubako.attention.files.given import read_arrays
from jubako.errors import InputError

X = np.arange(12, dtype=np.float32).reshape(1, 3, 4)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">f8", "<f2", ">i4", "?"])
def test_arrays_are_read_as_they_were_saved(save: Any, dtype: str, tmp_path: Path) -> None:
    save(tmp_path / "x.npz", query=np.asfortranarray(X.astype(dtype)), mask=np.ones((3, 3), bool))
    found = read_arrays(str(tmp_path / "x.npz"))
    assert found.keys() == {"query", "mask"}
    assert np.array_equal(found["query"], X.astype(dtype))
    assert found["query"].dtype.isnative
    np.save(tmp_path / "x.npy", X.astype(dtype))
    assert np.array_equal(read_arrays(str(tmp_path / "x.npy"))[""], X.astype(dtype))


def archive(change: Any = None, **arrays: Any) -> bytes:
    """An archive, with the bytes of its two heads changed: by offsets into each, and what is to be there."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    content = bytearray(file.getvalue())
    for mark, offset, byte in change or ():
        content[content.find(mark) + offset] = byte
    return bytes(content)


def head(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(64)


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, content in members.items():
            made.writestr(name.replace("_npy", ".npy"), content)
    return file.getvalue()


ENCRYPTED = ((b"PK\x03\x04", 6, 1), (b"PK\x01\x02", 8, 1))
UNKNOWN_METHOD = ((b"PK\x03\x04", 8, 97), (b"PK\x01\x02", 10, 97))
BROKEN = archive(query=X)
REFUSED = [
    ("npz", archive(ENCRYPTED, query=X), "holds no arrays: its array 'query' is encrypted"),
    ("npz", archive(UNKNOWN_METHOD, query=X), "holds no arrays: That compression method is not supported"),
    ("npz", zipped(query_npy=head((100_000, 100_000, 16))), r"its shape \(100000, 100000, 16\) is more than 192 bytes"),
    ("npy", head((100_000, 100_000, 16)), r"its shape \(100000, 100000, 16\) is more than 192 bytes hold"),
    ("npy", head((-5, 16)), "holds no arrays: "),
    ("npz", zipped(query=b"hello"), "holds no arrays: it is no array"),
    ("npz", zipped(), "holds no arrays: it is empty"),
    ("npz", BROKEN[:-200], "holds no arrays: "),
    ("npz", BROKEN.replace(X.tobytes(), X.tobytes()[::-1]), "holds no arrays: Bad CRC-32"),
    ("npz", archive(query=X + 1j), "its array 'query' is of type complex64"),
    ("npz", archive(query=np.zeros(3, [("a", "f4")])), "its array 'query' is of type "),
    ("npz", archive(query=np.zeros(3, "M8[s]")), r"its array 'query' is of type datetime64\[s\]"),
    ("npz", archive(query=np.array([["a"]])), "its array 'query' is of type <U1"),
    ("npy", b"", "holds no arrays: File is not a zip file"),
]


@pytest.mark.parametrize(("ending", "content", "sentence"), REFUSED, ids=[sentence[:40] for _, _, sentence in REFUSED])
def test_what_is_no_array_of_numbers_is_refused_in_a_sentence(
    ending: str, content: bytes, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / f"x.{ending}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence) as refused:
        read_arrays(str(path))
    assert "\n" not in refused.value.message


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(InputError, match="is no regular file"):
            read_arrays(str(tmp_path / name))
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_arrays(str(tmp_path / "none"))
