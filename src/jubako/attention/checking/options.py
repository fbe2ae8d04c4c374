"""What a check may be told."""

from __future__ import annotations

from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.verify.tolerance import Tolerance

__all__ = ["CheckOptions"]


@record
class CheckOptions:
    """How to check. `tolerance` replaces the bounds that follow from the type, and the report says so."""

    tolerance: Tolerance | None = None
    seed: int = 0  # of random inputs, and of dropout
    batch: int = 2  # of random inputs
    length: int = 16  # of random inputs
    layer: str = ""  # only layers whose name has this in it
    memory_bytes: int | None = None  # how much may be used; None: what is free

    def wants(self, name: str) -> bool:
        """True for the layers that are asked for."""
        return self.layer in name
