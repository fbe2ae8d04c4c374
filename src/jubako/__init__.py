"""jubako: dated batch work in which every task is a transaction.

The public names. They are loaded on first use, so that `import jubako` costs nothing and works on any platform.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jubako._version import __version__

if TYPE_CHECKING:
    from jubako.boxes.spec import Box as Box
    from jubako.boxes.spec import Host as Host
    from jubako.errors import ConflictError as ConflictError
    from jubako.errors import HostError as HostError
    from jubako.errors import InputError as InputError
    from jubako.errors import JubakoError as JubakoError
    from jubako.errors import WorkError as WorkError

_HOME_OF = {
    "Box": "jubako.boxes.spec",
    "Host": "jubako.boxes.spec",
    "ConflictError": "jubako.errors",
    "HostError": "jubako.errors",
    "InputError": "jubako.errors",
    "JubakoError": "jubako.errors",
    "WorkError": "jubako.errors",
}

__all__ = ["__version__", *sorted(_HOME_OF)]  # noqa: PLE0604  (names come from the table)


def __getattr__(name: str) -> Any:
    try:
        home = _HOME_OF[name]
    except KeyError:
        raise AttributeError(f"module 'jubako' has no attribute {name!r}") from None
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
