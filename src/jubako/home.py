"""Where jubako is, for who tells its files from a pipeline's, and who starts another Python that has to find it."""

from __future__ import annotations

import os

__all__ = ["HOME", "PACKAGE"]

PACKAGE = os.path.dirname(os.path.abspath(__file__))  # the directory of all its modules
HOME = os.path.dirname(PACKAGE)  # the one that is on a path where it can be imported
