"""Comparing what an attention layer gave, step by step, with what the reference gives; and saying what came of it.

NumPy is all that is needed here. Torch's modules are looked into in `jubako.attention.observing`.
"""

from __future__ import annotations
