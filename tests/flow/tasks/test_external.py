"""External copies of tasks and task classes: no `run`, the same otherwise, and the original untouched."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from jubako.flow.parameters import IntParameter
from jubako.flow.tasks.external import externalize
from jubako.flow.tasks.register import Register
from jubako.flow.tasks.task import Task


class Digging(Task):
    """Does work."""

    n = IntParameter(default=1)

    def run(self) -> Any:
        return "ran"


def test_external_class_has_no_run_and_keeps_name_family_and_words() -> None:
    external = externalize(Digging)
    assert (external.run, external(5).run, external(5).n) == (None, None, 5)
    assert (external.__name__, external.__module__, external.__doc__) == ("Digging", __name__, "Does work.")
    assert external(5).task_id == Digging(5).task_id
    assert external(5) != Digging(5)
    assert Digging().run() == "ran"
    assert Register.get_task_cls("Digging") is Digging


def test_external_object_has_no_run_and_is_equal() -> None:
    task = Digging(7)
    external = externalize(task)
    assert (external.run, external == task, external is task) == (None, True, False)
    assert task.run() == "ran"
    assert Digging(7) is task
    assert pickle.loads(pickle.dumps(external)).run is None


@pytest.mark.parametrize("kind", ["class", "object"])
def test_externalized_is_what_luigis_is(luigi: Any, kind: str) -> None:
    def facts(base: Any, module: Any, make_external: Any) -> Any:
        made = type(base)("Made", (base,), {"n": module.IntParameter(default=2), "__doc__": "Words."})
        external = make_external(made)(3) if kind == "class" else make_external(made(3))
        return (
            external.task_id,
            external.run,
            external.n,
            repr(external),
            type(external).__name__,
            type(external).__doc__,
        )

    assert facts(Task, Register and __import__("jubako"), externalize) == facts(
        luigi.Task, luigi, luigi.task.externalize
    )
