"""The same task class, declared in Luigi and here, called with the same arguments: same ids, texts, and refusals.

Exempt, by name:
  repr of concealed values    Luigi shows HIDDEN and PRIVATE ones; ours are starred, here and in errors. A value without
                              a text (a timedelta in a DictParameter) makes Luigi's repr fail, and so its complete()
  sets as values              become tuples in the order of their hashes in Luigi, sorted here
"""

from __future__ import annotations

import datetime
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.flow import parameters
from jubako.flow.parameters import Parameter
from jubako.flow.tasks import nesting, task
from jubako.flow.tasks.register import Register
from jubako.flow.tasks.task import Task, task_id_str

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "Parameter": st.text(max_size=20),
    "IntParameter": st.integers(),
    "FloatParameter": st.floats(),
    "BoolParameter": st.booleans(),
    "DateParameter": st.dates(datetime.date(1000, 1, 1)),
    "MonthParameter": st.dates(datetime.date(1000, 1, 1)),
    "DateHourParameter": st.datetimes(datetime.datetime(1000, 1, 1)),
    "DateMinuteParameter": st.datetimes(datetime.datetime(1000, 1, 1)),
    "TimeDeltaParameter": st.timedeltas(),
    "ListParameter": st.lists(st.integers() | st.text(max_size=3) | st.lists(st.none(), max_size=1), max_size=3),
    "DictParameter": st.dictionaries(st.text(max_size=3), st.integers(), max_size=3),
    "OptionalParameter": st.none() | st.text(min_size=1, max_size=20),
    "OptionalIntParameter": st.none() | st.integers(),
}


@st.composite
def declarations(draw: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """Parameters of a class: name, kind, options."""
    names = draw(st.lists(st.sampled_from(["date", "n", "x_y", "Z", "a"]), unique=True, max_size=5))
    found = []
    for name in names:
        kind = draw(st.sampled_from(sorted(VALUES)))
        options: dict[str, Any] = {}
        if draw(st.booleans()):
            options["default"] = draw(VALUES[kind])
        if draw(st.integers(0, 3)) == 0:
            options["significant"] = False
        if draw(st.integers(0, 3)) == 0:
            options["positional"] = False
        if draw(st.integers(0, 3)) == 0:
            options["visibility"] = draw(st.sampled_from([1, 2]))
        found.append((name, kind, options))
    return found


def declare(module: Any, base: Any, declared: list[tuple[str, str, dict[str, Any]]], space: str) -> Any:
    body: dict[str, Any] = {"task_namespace": space}
    for name, kind, options in declared:
        visibility = getattr(module, "parameter", module).ParameterVisibility(options.get("visibility", 0))
        body[name] = getattr(module, kind)(**{**options, "visibility": visibility})
    return type(base)("Made", (base,), body)


def outcome(function: Any) -> Any:
    try:
        return function()
    except Exception as error:  # noqa: BLE001  (which one is what is compared)
        return type(error).__name__, str(error)


def facts(made: Any, *, concealed: bool) -> Any:
    found = {
        "id": made.task_id,
        "text": made.to_str_params(),
        "identifying": made.to_str_params(only_significant=True, only_public=True),
        "names": made.get_param_names(),
        "all names": made.get_param_names(include_significant=True),
        "family": made.task_family,
        "values": repr(made.param_kwargs),
        "hash": hash(made) == hash(made.task_id),
    }
    return found if concealed else found | {"complete": outcome(made.complete)}


@given(st.data(), declarations(), st.sampled_from(["", "ns", "n.s"]))
def test_task_is_luigis(luigi: Any, data: st.DataObject, declared: list[Any], space: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours_cls, their_cls = declare(parameters, Task, declared, space), declare(luigi, luigi.Task, declared, space)
        args, kwargs = [], {}
        for name, kind, options in declared:
            choice = data.draw(st.integers(0, 5))
            if choice == 0 and options.get("positional", True):
                args.append(data.draw(VALUES[kind]))
            elif choice < 5:
                kwargs[name] = data.draw(VALUES[kind])
        if data.draw(st.integers(0, 9)) == 0:
            kwargs["unknown"] = 1
        ours, theirs = outcome(lambda: ours_cls(*args, **kwargs)), outcome(lambda: their_cls(*args, **kwargs))
        concealed = any(options.get("visibility") for _, _, options in declared)
        if isinstance(theirs, tuple):
            assert ours[0] == theirs[0]
            assert concealed or ours[1] == theirs[1]
        else:
            assert outcome(lambda: facts(ours, concealed=concealed)) == outcome(
                lambda: facts(theirs, concealed=concealed)
            )
            if not concealed:
                assert repr(ours) == repr(theirs)
                assert outcome(lambda: ours.from_str_params(ours.to_str_params()) == ours) == outcome(
                    lambda: theirs.from_str_params(theirs.to_str_params()) == theirs
                )


@given(st.text(min_size=1, max_size=9), st.dictionaries(st.text(max_size=9), st.text(max_size=30), max_size=5))
def test_task_id_of_texts_is_luigis(luigi: Any, family: str, texts: dict[str, str]) -> None:
    assert task_id_str(family, texts) == luigi.task.task_id_str(family, texts)


def test_task_id_of_texts_that_are_none_is_refused_as_in_luigi(luigi: Any) -> None:
    class Odd:
        def serialize(self, x: Any) -> Any:
            return 5

    class OurOdd(Odd, Parameter[Any]):
        pass

    class TheirOdd(Odd, luigi.Parameter):
        pass

    ours = outcome(lambda: type(Task)("Odd", (Task,), {"x": OurOdd()})(x=1))
    theirs = outcome(lambda: type(luigi.Task)("Odd", (luigi.Task,), {"x": TheirOdd()})(x=1))
    assert ours == theirs


STRUCTURES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3) | st.tuples(inner)
    ),
    max_leaves=9,
)


@given(STRUCTURES)
def test_flatten_is_luigis(luigi: Any, structure: Any) -> None:
    assert nesting.flatten(structure) == luigi.task.flatten(structure)


@pytest.mark.parametrize("name", ["DailySumary", "Daly", "Zzzzzzzzzzzzzzzzzzzz", "dailysummary"])
def test_words_about_an_unknown_task_are_luigis(luigi: Any, name: str) -> None:
    class DailySummary(Task):
        pass

    class Daily(Task):
        pass

    ours = Register._missing_task_msg(name)
    luigis = luigi.task_register.Register
    kept = luigis._reg
    luigis._reg = [type(luigi.Task)(family, (luigi.Task,), {}) for family in Register.task_names()]
    try:
        assert ours == luigis._missing_task_msg(name)
    finally:
        luigis._reg = kept


def test_public_names_of_luigis_task_module_are_here(luigi: Any) -> None:
    for name in (
        "namespace",
        "auto_namespace",
        "task_id_str",
        "Task",
        "ExternalTask",
        "WrapperTask",
        "Config",
        "flatten",
    ):
        assert hasattr(luigi.task, name)
        assert hasattr(task, name), name
