"""`signal` without the enumerations it puts around the numbers, which take 3 ms to make.

`from jubako.kernel.signals import signal` gives the module that the standard one is made of: the same functions, and
plain numbers. For what is imported where a box is started; everything else may use the standard one.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal

__all__ = ["signal"]
