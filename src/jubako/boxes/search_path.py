"""A name of the standard library means the standard library, whatever the files beside a pipeline are called.

Python searches the folder of a script before its own modules. A `copy.py` or `token.py` there is then what the standard
library gets when it imports such a module late, in the middle of a run; and `msvcrt.py` when it tries if it is on
Windows. There is one module of a name in a process, so both cannot be had: in jubako's processes Python's own wins.
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

__all__ = ["reserve_standard_names"]

_FOLDER: Final = os.path.dirname(os.__file__)
_NAMES: Final = (f"python{sys.version_info.major}{sys.version_info.minor}.zip", "lib-dynload")


class _StandardLibrary:
    """Finds top-level modules of the standard library, in it only; says so of those that it has on other systems."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or fullname not in sys.stdlib_module_names:
            return None
        own = [entry for entry in sys.path if entry == _FOLDER or os.path.basename(entry) in _NAMES]
        spec = PathFinder.find_spec(fullname, own, target)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return spec


def reserve_standard_names() -> None:
    """From now on this process finds no module of Python's own anywhere but in the standard library. Idempotent."""
    if not any(isinstance(finder, _StandardLibrary) for finder in sys.meta_path):
        # Behind the finders of built-in modules and of those who have put theirs first, as setuptools for distutils.
        place = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else len(sys.meta_path)
        sys.meta_path.insert(place, _StandardLibrary())
