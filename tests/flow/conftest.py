"""What tests of pipelines share: a register of their own each, and Luigi itself to compare with."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from jubako.flow.register import Register
from jubako.flow.task import Task


@pytest.fixture(autouse=True)
def own_register() -> Iterator[None]:
    """Task classes that a test defines are forgotten after it, and so are the tasks it made."""
    classes, namespaces = list(Register._reg), dict(Register._default_namespace_dict)
    callbacks = {
        cls: {event: dict(found) for event, found in events.items()} for cls, events in Task._event_callbacks.items()
    }
    yield
    Register._reg[:] = classes
    Register._default_namespace_dict.clear()
    Register._default_namespace_dict.update(namespaces)
    Task._event_callbacks.clear()
    Task._event_callbacks.update(callbacks)
    Register.clear_instance_cache()


@pytest.fixture(scope="session")
def luigi() -> Any:
    """Luigi, the peer whose names and behaviour are kept."""
    if sys.version_info >= (3, 14):
        pytest.skip("Luigi 3.8.1 is not made for this Python")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about a setting of its own
        import luigi
        import luigi.tools.range
    return luigi
