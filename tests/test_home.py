"""Where jubako is."""

from __future__ import annotations

import os

import jubako
from jubako.home import HOME, PACKAGE


def test_home_holds_the_package_that_is_imported() -> None:
    assert os.path.samefile(PACKAGE, jubako.__path__[0])
    assert os.path.join(HOME, "jubako") == PACKAGE
