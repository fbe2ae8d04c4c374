"""Modules of the standard library that jubako needs are found there, whatever the files beside a pipeline are called.

Python searches the folder of a script before its own modules. A `copy.py` or `token.py` there is then what the standard
library gets when it imports such a module late, in the middle of a run; and `msvcrt.py` when it tries if it is on
Windows. There is one module of a name in a process, so both cannot be had: of the names listed here Python's own module
wins in jubako's processes. Of all others the file beside the pipeline does, as with `python FILE`
(docs/decisions/0010-only-the-names-that-jubako-needs-are-reserved.md).

tests/boxes/workers/test_search_path.py says which names must be listed.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Final

__all__ = ["RESERVED_NAMES", "is_reserved", "reserve_standard_names"]

_FOLDER: Final = os.path.dirname(os.__file__)
_NAMES: Final = (f"python{sys.version_info.major}{sys.version_info.minor}.zip", "lib-dynload")


# Public names of the standard library that jubako, or what it imports, may import at any time. `annotationlib`,
# `codeop`, `compression`, `glob` and `grp` are for versions of Python after 3.11, whose other modules import them.
RESERVED_NAMES: Final = frozenset(
    (
        *("abc", "annotationlib", "array", "ast", "atexit", "base64", "binascii", "bisect", "builtins", "bz2"),
        *("calendar", "codecs", "codeop", "collections", "colorsys", "compression", "contextlib"),
        *("contextvars", "copy", "copyreg", "csv", "ctypes", "dataclasses", "datetime", "decimal", "difflib"),
        *("dis", "encodings", "enum", "errno", "fcntl", "fnmatch", "fractions", "functools", "gc"),
        *("genericpath", "gettext", "glob", "grp", "gzip", "hashlib", "heapq", "hmac", "importlib", "inspect"),
        *("io", "ipaddress", "itertools", "json", "keyword", "linecache", "locale", "logging", "lzma"),
        *("marshal", "math", "msvcrt", "nt", "ntpath", "numbers", "opcode", "operator", "os", "pathlib"),
        *("pickle", "platform", "posix", "posixpath", "pwd", "random", "re", "reprlib", "resource", "secrets"),
        *("select", "selectors", "shlex", "shutil", "signal", "site", "socket", "sqlite3", "stat", "string", "struct"),
        *(
            "subprocess",
            "sys",
            "sysconfig",
            "tempfile",
            "termios",
            "textwrap",
            "threading",
            "time",
            "token",
            "tokenize",
            "tomllib",
            "traceback",
        ),
        *("tracemalloc", "types", "typing", "unicodedata", "urllib", "uuid", "warnings", "weakref"),
        *("zipfile", "zipimport", "zlib", "zoneinfo"),
    )
)


class _StandardLibrary:
    """Finds modules with reserved names in the standard library only; says so of those that it has on other systems."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or not is_reserved(fullname):
            return None
        own = [entry for entry in sys.path if entry == _FOLDER or os.path.basename(entry) in _NAMES]
        spec = PathFinder.find_spec(fullname, own, target)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return spec


def is_reserved(name: str) -> bool:
    """True if `name` always is a module of Python's own, or none: one that is listed, or one of its private modules.

    Which private modules (`_strptime`, `_colorize`) the public ones are made of changes from version to version.
    """
    return name in RESERVED_NAMES or (name.startswith("_") and name in sys.stdlib_module_names)


def reserve_standard_names() -> None:
    """From now on this process finds modules with reserved names nowhere but in the standard library. Idempotent."""
    if not any(isinstance(finder, _StandardLibrary) for finder in sys.meta_path):
        # Behind the finders of built-in modules and of those who have put theirs first, as setuptools for distutils.
        place = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else len(sys.meta_path)
        sys.meta_path.insert(place, _StandardLibrary())
