"""Parquet files, compared column by column and row by row. The only module that imports pyarrow.

Both are read in batches of as many rows, one column at a time, so memory does not grow with them. Names and types of
columns count, and the order of rows; how they are compressed, split into row groups and encoded does not.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from jubako.verify.findings import Incomparable, Unreadable
from jubako.verify.json_values import compare_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from jubako.verify.content import File
    from jubako.verify.findings import Findings

__all__ = ["compare_parquet"]

_ROWS = 1 << 14  # of a batch


def compare_parquet(one: File, other: File, findings: Findings) -> None:
    """Two Parquet files."""
    with one.open_raw() as published, other.open_raw() as recomputed:
        try:
            files = [pq.ParquetFile(stream, pre_buffer=False) for stream in (published, recomputed)]
            _compare(files[0], files[1], findings)
        except (pa.ArrowInvalid, pa.ArrowException, EOFError) as error:
            raise Unreadable(f"it is no Parquet file: {str(error).partition(chr(10))[0]}") from error
        except OSError as error:  # what pyarrow says of damaged pages
            raise Unreadable(f"it is a damaged Parquet file: {error}") from error


def _compare(one: Any, other: Any, findings: Findings) -> None:
    types = [{field.name: field.type for field in file.schema_arrow} for file in (one, other)]
    for file, known in zip((one, other), types, strict=True):
        if len(known) < len(file.schema_arrow):
            raise Incomparable("it has several columns of one name")
    columns = []
    for name in dict.fromkeys([*types[0], *types[1]]):
        if findings.ignores(name):
            continue
        if name in types[0] and types[0][name] == types[1].get(name):
            columns.append(name)
        else:
            findings.differ(f"column {name}", *(f"type {t[name]}" if name in t else "" for t in types))
    shared = [[name for name in each if name in columns] for each in types]
    if shared[0] != shared[1]:
        findings.differ("the order of columns", *(", ".join(names) for names in shared))
    counts = [file.metadata.num_rows for file in (one, other)]
    if counts[0] != counts[1]:
        findings.differ("the number of rows", *map(str, counts))
        findings.is_partial = True
    for name in columns:
        _compare_column(name, one, other, min(counts), findings)


def _compare_column(name: str, one: Any, other: Any, rows: int, findings: Findings) -> None:
    done = 0
    for published, recomputed in zip(_read(one, name), _read(other, name), strict=False):
        count = min(len(published), len(recomputed), rows - done)
        pair = [array.slice(0, count) for array in (published, recomputed)]
        if not _are_same(*pair):
            for index, (value, new) in enumerate(zip(*(array.to_pylist() for array in pair), strict=True)):
                if value is not new:
                    compare_values(value, new, findings, root=f"row {done + index}, column {name}")
        done += count
        if done >= rows:
            return


def _are_same(one: Any, other: Any) -> bool:
    """True if two arrays of one type are the same bit by bit; False where their values have to be looked at."""
    if pa.types.is_floating(one.type):  # arrow takes 0.0 for -0.0, and no NaN for another
        bits = f"int{one.type.bit_width}"
        return bool(one.view(bits).equals(other.view(bits)))
    return not pa.types.is_nested(one.type) and bool(one.equals(other))


def _read(file: Any, name: str) -> Iterator[Any]:
    for batch in file.iter_batches(_ROWS, columns=[name], use_threads=False):
        yield batch.column(0)
