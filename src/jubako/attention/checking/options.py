"""What a check may be told."""

from __future__ import annotations

from numbers import Integral

from jubako.errors import InputError
from jubako.records import record
from jubako.verify.tolerance import Tolerance

__all__ = ["CheckOptions"]

_LARGEST = (1 << 63) - 1  # of what torch and NumPy both take
_LEAST = {"seed": 0, "batch": 1, "length": 1, "memory_bytes": 0}


@record
class CheckOptions:
    """How to check. `tolerance` replaces the bounds that follow from the type, and the report says so."""

    tolerance: Tolerance | None = None
    seed: int = 0  # of random inputs, and of dropout
    batch: int = 2  # of random inputs
    length: int = 16  # of random inputs
    layer: str = ""  # only layers whose name has this in it
    memory_bytes: int | None = None  # how much may be used; None: what is free

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is None and name == "memory_bytes":
                continue
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise InputError(f"{name} is {value!r}, and must be a whole number")
            if not least <= int(value) <= _LARGEST:
                raise InputError(f"{name} is {value}, and must be {least} or more, and less than 2**63")
            object.__setattr__(self, name, int(value))  # NumPy's, too, which others would not take
        if not isinstance(self.layer, str):
            raise InputError(f"layer is {self.layer!r}, and must be text that is in the names of the layers to check")
        if not isinstance(self.tolerance, (Tolerance, type(None))):
            raise InputError(f"tolerance is {self.tolerance!r}, and must be a jubako.verify.Tolerance")

    def wants(self, name: str) -> bool:
        """True for the layers that are asked for."""
        return self.layer in name
