"""Which comparator is for which file: by the name of the file, with a place for those of others.

    @comparator(".vcf")
    def compare_variants(published, recomputed, findings): ...

A comparator gets two `content.File` and reports to `findings.Findings`. Those that were registered come before those
below; the longest ending wins. Endings of compression (.gz, .bz2, .xz) are looked through.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from importlib import import_module

from jubako.errors import InputError
from jubako.verify.content import strip_compression
from jubako.verify.findings import Incomparable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias, TypeVar

    from jubako.verify.content import File
    from jubako.verify.findings import Findings

    Comparator: TypeAlias = Callable[[File, File, Findings], None]
    Named: TypeAlias = tuple[str, Comparator]
    C = TypeVar("C", bound=Comparator)

__all__ = ["KINDS", "comparator", "find_comparator", "load_kind"]

# The home of each kind, "module:function", imported when it is first needed.
KINDS = {
    "bytes": "jubako.verify.plain:compare_bytes",
    "text": "jubako.verify.plain:compare_text",
    "csv": "jubako.verify.tables:compare_tables",
    "json": "jubako.verify.json_values:compare_json",
    "json lines": "jubako.verify.json_values:compare_json_lines",
    "npy": "jubako.verify.arrays:compare_array_files",
    "npz": "jubako.verify.arrays:compare_array_archives",
    "parquet": "jubako.verify.parquet:compare_parquet",
    "image": "jubako.verify.images:compare_images",
    "safetensors": "jubako.verify.weights:compare_weights",
}
_ENDINGS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".geojson": "json",
    ".jsonl": "json lines",
    ".ndjson": "json lines",
    ".npy": "npy",
    ".npz": "npz",
    ".parquet": "parquet",
    ".safetensors": "safetensors",
    **dict.fromkeys((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"), "image"),
}
_EXTRAS = {"numpy": "numpy", "pyarrow": "parquet", "PIL": "images"}  # what is missing -> the extra that brings it
_CALLED = {"PIL": "Pillow"}

_registered: dict[str, Comparator] = {}


def comparator(*endings: str) -> Callable[[C], C]:
    """Decorator: files whose name ends like that are compared by the function from now on."""
    wrong = [ending for ending in endings if not (isinstance(ending, str) and ending.strip())]
    if wrong or not endings:
        raise InputError(f"comparator() takes endings of file names, not {wrong or 'nothing'}", hint='as in ".vcf"')

    def register(function: C) -> C:
        _registered.update((ending.lower(), function) for ending in endings)
        return function

    return register


def find_comparator(name: str, chosen: Mapping[str, str | Comparator]) -> Named | None:
    """What compares a file called `name`, and what that is called; None where nothing is known of such files.

    `chosen` comes first: patterns of names ("*.dat"), each with a kind ("csv") or a function.
    """
    for pattern, choice in chosen.items():
        if fnmatchcase(name, pattern):
            return _name(choice) if callable(choice) else (choice, load_kind(choice))
    known = name.lower()
    for ending in sorted(_registered, key=len, reverse=True):
        if known.endswith(ending) or strip_compression(known).endswith(ending):
            return _name(_registered[ending])
    inner = strip_compression(known)
    kind = next((kind for ending, kind in _ENDINGS.items() if inner.endswith(ending)), None)
    return None if kind is None else (kind, load_kind(kind))


def load_kind(kind: str) -> Comparator:
    """The comparator of a kind. InputError for one there is not, Incomparable where a library for it is missing."""
    if kind not in KINDS:
        raise InputError(f"there is no comparator called {kind!r}", hint=f"there are {', '.join(KINDS)}")
    module, _, function = KINDS[kind].partition(":")
    try:
        found: Comparator = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        raise Incomparable(
            f"{kind} files are compared with {_CALLED.get(error.name, error.name)}, which is not installed: "
            f"pip install 'jubako[{_EXTRAS[error.name]}]'"
        ) from error
    return found


def _name(function: Comparator) -> Named:
    return getattr(function, "__name__", "comparator"), function
