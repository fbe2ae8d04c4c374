"""Tasks named for another process."""

from __future__ import annotations

import enum
import pickle
from typing import Any

import pytest

from jubako.errors import InputError
from jubako.flow.parameters import EnumParameter, IntParameter, Parameter, ParameterVisibility
from jubako.flow.tasks.external import externalize
from jubako.flow.tasks.task import ExternalTask, Task
from jubako.flow.tasks.task_reference import TaskReference, dump_references, load_references, refer


class Colour(enum.Enum):
    RED = 1


class Painted(Task):
    colour = EnumParameter(enum=Colour)
    secret = Parameter(visibility=ParameterVisibility.PRIVATE)

    class Inner(Task):
        n: Any = IntParameter()

    def run(self) -> None:
        pass


class Outside(ExternalTask):
    pass


def test_reference_makes_the_very_task_again_secrets_too() -> None:
    task = Painted(Colour.RED, "s3cret")
    assert load_references(dump_references([task, Painted.Inner(2), Outside()])) == [task, Painted.Inner(2), Outside()]
    assert load_references(dump_references([task]))[0] is task


def test_externalized_task_stays_external() -> None:
    external = externalize(Painted)(Colour.RED, "x")
    (again,) = load_references(dump_references([external]))
    assert again.run is None


def test_class_defined_in_a_function_is_found_by_its_family() -> None:
    class Local(Task):
        n = IntParameter()

    assert load_references(dump_references([Local(3)])) == [Local(3)]


def test_unknown_class_is_refused_with_its_name() -> None:
    reference = TaskReference("no.such.module", "Nobody", "Nobody", {})
    with pytest.raises(InputError, match="Nobody"):
        pickle.loads(pickle.dumps(reference)).resolve()


def test_value_that_cannot_be_pickled_is_refused_with_the_task() -> None:
    with pytest.raises(InputError, match=r"Inner\(n=.*\) cannot be handed to another process"):
        dump_references([Painted.Inner(lambda: None)])


def test_reference_names_class_and_values() -> None:
    reference = refer(Painted.Inner(2))
    assert (reference.qualname, reference.family, dict(reference.values)) == ("Painted.Inner", "Inner", {"n": 2})
