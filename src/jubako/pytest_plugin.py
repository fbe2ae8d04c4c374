"""The pytest plugin: a fixture `box`, in which a test may break what it likes. Loaded by every run of pytest where
jubako is installed, so it imports nothing of jubako before a test asks for the fixture.
"""

from __future__ import annotations

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jubako.testing.box import FixtureBox

__all__ = ["box"]

_OPTIONAL = "box_optional"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declares what may be said in the configuration file."""
    parser.addini(
        _OPTIONAL, "skip tests that use the fixture `box` where boxes cannot be made", type="bool", default=False
    )


@pytest.fixture
def box(request: pytest.FixtureRequest) -> Iterator[FixtureBox]:
    """A copy-on-write view of this machine: run commands and call functions in it, and look at what they changed.

    All of it is dropped when the test ends. Where boxes cannot be made the test fails and says why; with
    `box_optional = true` in pytest's configuration it is skipped.
    """
    from jubako.testing.box import HostError, open_fixture_box

    try:
        opened = open_fixture_box()
    except HostError as error:
        said = f"no box can be made here: {error.message}. {error.hint}".rstrip()
        if request.config.getini(_OPTIONAL):
            pytest.skip(said)
        pytest.fail(said, pytrace=False)
    with opened:
        yield opened
