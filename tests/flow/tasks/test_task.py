"""Tasks: identity, what a pipeline overrides, events, dependencies."""

from __future__ import annotations

import copy
import datetime
import gc
import logging
import pickle
import tracemalloc
from typing import Any

import pytest

from jubako.flow.parameters import (
    DateParameter,
    DictParameter,
    DuplicateParameterException,
    IntParameter,
    InvalidParameterException,
    ListParameter,
    MissingParameterException,
    Parameter,
    ParameterVisibility,
    UnknownParameterException,
    values_from,
)
from jubako.flow.targets.mock import MockTarget
from jubako.flow.tasks.bulk import BulkCompleteNotImplementedError, MixinNaiveBulkComplete
from jubako.flow.tasks.event import Event
from jubako.flow.tasks.register import Register
from jubako.flow.tasks.task import Config, ExternalTask, Task, WrapperTask, auto_namespace, namespace

DAY = datetime.date(2024, 1, 2)


LUIGIS_ATTRIBUTES = (
    *("priority", "disabled", "resources", "worker_timeout", "max_batch_size", "batchable", "retry_count"),
    *("disable_hard_timeout", "disable_window", "owner_email", "accepts_messages", "use_cmdline_section"),
    *("set_tracking_url", "set_status_message", "set_progress_percentage", "task_family", "task_id"),
)


class T(Task):
    d = DateParameter()
    n = IntParameter(default=3)


class Secretive(Task):
    name = Parameter(default="x")
    token = Parameter(default="s3cret", visibility=ParameterVisibility.PRIVATE)
    user = Parameter(default="me", visibility=ParameterVisibility.HIDDEN)
    note = Parameter(default="", significant=False)


# --- identity


def test_task_id_is_family_first_values_and_digest() -> None:
    assert T(DAY).task_id == "T_2024_01_02_3_15303ba15d"  # as Luigi has it, see test_task_same_as_luigi


def test_same_arguments_are_the_same_object_however_they_are_given() -> None:
    assert T(DAY) is T(d=DAY) is T(DAY, 3) is T(DAY, n=3) is T(datetime.datetime(2024, 1, 2, 5))
    assert T(DAY) is not T(DAY, 4)
    assert hash(T(DAY)) == hash(T(d=DAY))


def test_unhashable_values_make_a_new_equal_object_each_time() -> None:
    class Loose(Task):
        x = Parameter()

    with pytest.warns(UserWarning, match="is not of type string"):
        one, other = Loose({"a": []}), Loose({"a": []})
    assert one is not other
    assert one == other


def test_tasks_that_differ_in_concealed_values_are_equal_and_kept_apart() -> None:
    assert Secretive(token="a") == Secretive(token="b")
    assert Secretive(note="a") == Secretive(note="b")
    assert Secretive(token="a") is not Secretive(token="b")
    assert Secretive(name="a") != Secretive(name="b")


def test_tasks_of_two_classes_are_not_equal() -> None:
    class Other(T):
        def get_task_family(self) -> str:  # type: ignore[override]
            return "T"

    assert T(DAY) != "T"
    assert (T(DAY) == object()) is False


def test_cleared_cache_makes_new_objects_and_disabled_one_always_does() -> None:
    before = T(DAY)
    Register.clear_instance_cache()
    assert T(DAY) is not before
    Register.disable_instance_cache()
    assert T(DAY) is not T(DAY)


def test_lists_and_sets_become_tuples_in_one_order() -> None:
    class Many(Task):
        items: Any = Parameter()

        def output(self) -> Any:
            return None

    with pytest.warns(UserWarning):
        assert Many({"b", "a", "c"}).items == ("a", "b", "c")
        assert Many(["b", "a"]).items == ("b", "a")


def test_repr_hides_concealed_values_and_insignificant_ones() -> None:
    assert repr(Secretive()) == "Secretive(name=x, token=***, user=***)"
    assert repr(T(DAY)) == "T(d=2024-01-02, n=3)"


def test_value_of_the_wrong_type_is_not_warned_of_if_it_is_concealed(recwarn: pytest.WarningsRecorder) -> None:
    class Odd(Task):
        pin = Parameter(visibility=ParameterVisibility.HIDDEN)

    Odd(4815)  # type: ignore[arg-type]
    assert not recwarn.list


def test_error_about_a_call_does_not_show_its_secrets() -> None:
    with pytest.raises(UnknownParameterException) as caught:
        Secretive("a", "hunter2", user="root", zz=1)
    assert "hunter2" not in str(caught.value)
    assert "root" not in str(caught.value)
    assert str(caught.value).endswith("kwargs={'user': '***', 'zz': '***'}]: unknown parameter zz")


def test_task_is_pickled_and_copied_with_its_values() -> None:
    for twin in (pickle.loads(pickle.dumps(T(DAY, 5))), copy.copy(T(DAY, 5))):
        assert (twin, twin.d, twin.n, twin.param_kwargs) == (T(DAY, 5), DAY, 5, {"d": DAY, "n": 5})
        assert repr(twin) == "T(d=2024-01-02, n=5)"


def test_100000_tasks_take_less_than_600_bytes_each() -> None:
    class Small(Task):
        date = DateParameter()

        def output(self) -> Any:
            return MockTarget(f"x{self.date}")

    days = [datetime.date.fromordinal(700_000 + n) for n in range(5_000)]
    Small(DAY)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tasks = [Small(day) for day in days]
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert used / len(tasks) < 600


# --- parameters


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "words"),
    [
        ((), {}, MissingParameterException, "T[args=(), kwargs={}]: requires the 'd' parameter to be set"),
        ((DAY,), {"zz": 1}, UnknownParameterException, f"T[args=({DAY!r},), kwargs={{'zz': 1}}]: unknown parameter zz"),
        (
            (DAY,),
            {"d": 1},
            DuplicateParameterException,
            f"T[args=({DAY!r},), kwargs={{'d': 1}}]: parameter d was already set as a positional parameter",
        ),
        (
            (DAY, 1, 2),
            {},
            UnknownParameterException,
            f"T[args=({DAY!r}, 1, 2), kwargs={{}}]: takes at most 2 parameters (3 given)",
        ),
    ],
)
def test_call_that_does_not_fit_is_refused(args: Any, kwargs: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        T(*args, **kwargs)
    assert str(caught.value) == words


def test_setting_that_does_not_parse_is_refused_with_names() -> None:
    with values_from({("T", "n"): "many"}), pytest.raises(InvalidParameterException) as caught:
        T(DAY)
    assert "Error when parsing the default value of 'n'" in str(caught.value)
    assert "T: --n 'many' can't be read" in str(caught.value)


def test_setting_replaces_a_default_but_not_an_argument() -> None:
    with values_from({("T", "n"): "8"}):
        assert (T(DAY).n, T(DAY, 9).n) == (8, 9)


def test_parameter_added_changed_or_removed_later_counts_also_in_subclasses() -> None:
    class Base(Task):
        a = IntParameter(default=1)

    class Derived(Base):
        pass

    assert Derived().param_kwargs == {"a": 1}
    Base.b = IntParameter(default=2)  # type: ignore[attr-defined]
    assert Derived().param_kwargs == {"a": 1, "b": 2}
    Base.a = 5  # type: ignore[assignment]
    assert Derived().param_kwargs == {"b": 2}
    del Base.b  # type: ignore[attr-defined]
    assert Derived().param_kwargs == {}
    assert Derived().a == 5


def test_positional_arguments_skip_parameters_that_are_not_positional() -> None:
    class P(Task):
        a = IntParameter()
        b = IntParameter(default=0, positional=False)
        c = IntParameter()

    assert P(1, 2).param_kwargs == {"a": 1, "b": 0, "c": 2}


def test_inherited_parameters_come_first_and_overridden_ones_last() -> None:
    class Base(Task):
        a = IntParameter(default=1)
        b = IntParameter(default=2)

    class Derived(Base):
        c = IntParameter(default=3)
        a = IntParameter(default=4)

    assert Derived.get_param_names() == ["b", "c", "a"]


def test_text_form_reads_back_but_for_private_values() -> None:
    task = Secretive("n", "t", "u", "o")
    assert task.to_str_params() == {"name": "n", "user": "u", "note": "o"}
    assert task.to_str_params(only_significant=True) == {"name": "n", "user": "u"}
    assert task.to_str_params(only_significant=True, only_public=True) == {"name": "n"}
    assert T.from_str_params(T(DAY, 4).to_str_params()) is T(DAY, 4)


def test_list_of_texts_is_combined_by_the_batch_method() -> None:
    class Batch(Task):
        n = IntParameter(batch_method=max)

    assert Batch.from_str_params({"n": ["1", "10", "9"]}).n == 10
    assert Batch.batch_param_names() == ["n"]
    assert Batch(1).batchable
    assert not T(DAY).batchable


def test_init_of_its_own_sees_values_and_may_change_them() -> None:
    class Own(Task):
        n = IntParameter()

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.n += 1

    assert (Own(1).n, Own(1).param_kwargs) == (2, {"n": 1})
    assert Own(1) is Own(1)


def test_init_that_raises_leaves_nothing_in_the_cache() -> None:
    class Never(Task):
        attempts = 0

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            type(self).attempts += 1
            if self.attempts == 1:
                raise RuntimeError("once")

    with pytest.raises(RuntimeError, match="once"):
        Never()
    assert Never() is Never()


def test_clone_takes_values_wherever_names_agree() -> None:
    class Other(Task):
        n = IntParameter()
        z = Parameter(default="z")

    assert T(DAY, 7).clone(Other) is Other(7)
    assert T(DAY, 7).clone(n=8) is T(DAY, 8)
    assert T(DAY, 7).clone(Other, z="a", unknown=1) is Other(7, "a")


def test_deprecated_param_args_still_answer() -> None:
    with pytest.warns(DeprecationWarning, match="Use of param_args has been deprecated"):
        assert T(DAY).param_args == (DAY, 3)


# --- names


def test_namespace_holds_for_classes_defined_after_it() -> None:
    namespace("outer", scope=__name__)

    class Inner(Task):
        pass

    namespace(scope=__name__)

    class After(Task):
        pass

    assert (Inner.get_task_family(), After.get_task_family()) == ("outer.Inner", "After")
    assert Inner.task_family == Inner().task_family == "outer.Inner"
    assert Inner().task_id.startswith("outer.Inner_")


def test_auto_namespace_is_the_module_and_an_explicit_one_wins() -> None:
    auto_namespace(scope=__name__)

    class Auto(Task):
        pass

    class Explicit(Task):
        task_namespace = "mine"

    assert Auto.get_task_namespace() == __name__
    assert Explicit.get_task_family() == "mine.Explicit"


def test_namespace_given_later_renames_the_class() -> None:
    class Late(Task):
        pass

    assert Late().task_family == "Late"
    Late.task_namespace = "now"
    assert repr(Late()) == "now.Late()"


# --- completeness, structure


class Made(Task):
    n = IntParameter()

    def output(self) -> Any:
        return {"a": MockTarget(f"made-{self.n}-a"), "b": [MockTarget(f"made-{self.n}-b")]}


def write(target: Any) -> None:
    with target.open("w") as file:
        file.write("x")


@pytest.fixture(autouse=True)
def empty_memory() -> None:
    MockTarget.fs.clear()


def test_task_is_complete_when_all_its_outputs_exist() -> None:
    assert not Made(1).complete()
    write(Made(1).output()["a"])
    assert not Made(1).complete()
    write(Made(1).output()["b"][0])
    assert Made(1).complete()


def test_task_without_outputs_is_not_complete_and_warns() -> None:
    with pytest.warns(UserWarning, match="without outputs has no custom complete"):
        assert not T(DAY).complete()


def test_wrapper_is_complete_when_all_it_requires_is() -> None:
    class Both(WrapperTask):
        def requires(self) -> Any:
            return [Made(1), {"x": Made(2)}]

    assert Both().deps() == [Made(1), Made(2)]
    assert not Both().complete()
    for n in (1, 2):
        write(Made(n).output()["a"])
        write(Made(n).output()["b"][0])
    assert Both().complete()


def test_input_has_the_structure_of_requires() -> None:
    class Needs(Task):
        def requires(self) -> Any:
            return {"one": Made(1), "more": (Made(2), [Made(3)])}

    found = Needs().input()
    assert found["one"]["a"].path == "made-1-a"
    assert found["more"][1][0]["b"][0].path == "made-3-b"
    assert isinstance(found["more"], tuple)


def test_bulk_complete_is_not_there_unless_written_or_mixed_in() -> None:
    class Bulk(MixinNaiveBulkComplete, Task):
        n = IntParameter()
        m = IntParameter(default=0)

        def complete(self) -> bool:
            return self.n > 1

    with pytest.raises(BulkCompleteNotImplementedError):
        T.bulk_complete([DAY])
    assert Bulk.bulk_complete([1, (2, 5), [3], {"n": 4}, {"n": 0}]) == [(2, 5), [3], {"n": 4}]


def test_external_task_has_no_run_and_others_have() -> None:
    assert ExternalTask.run is None
    assert callable(Task.run)
    assert issubclass(Config, Task)


def test_check_and_after_publish_are_seen_only_where_written() -> None:
    class Checked(Task):
        def check(self) -> None: ...

        def after_publish(self) -> None: ...

    class Parametrised(Task):
        check = IntParameter(default=1)

    assert (T(DAY).has_check(), T(DAY).has_after_publish()) == (False, False)
    assert (Checked().has_check(), Checked().has_after_publish()) == (True, True)
    assert not Parametrised().has_check()


def test_defaults_of_attributes_are_luigis(luigi: Any) -> None:
    ours, theirs = Task(), luigi.Task()
    for name in LUIGIS_ATTRIBUTES:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.process_resources() == theirs.process_resources()
    assert Task().task_module == "jubako.flow.tasks.task"


def test_on_failure_returns_the_traceback() -> None:
    try:
        raise ValueError("bad luck")
    except ValueError as error:
        text = T(DAY).on_failure(error)
    assert text.startswith("Runtime error:\nTraceback")
    assert "ValueError: bad luck" in text


# --- events


def test_event_handlers_are_called_in_order_for_the_class_and_its_subclasses() -> None:
    class Derived(T):
        pass

    heard: list[Any] = []

    @T.event_handler(Event.SUCCESS)
    def first(task: Any) -> None:
        heard.append(("first", task))

    @Derived.event_handler(Event.SUCCESS)
    def second(task: Any) -> None:
        heard.append(("second", task))

    T(DAY).trigger_event(Event.SUCCESS, T(DAY))
    Derived(DAY).trigger_event(Event.SUCCESS, Derived(DAY))
    T.remove_event_handler(Event.SUCCESS, first)
    T(DAY).trigger_event(Event.SUCCESS, T(DAY))
    assert heard == [("first", T(DAY)), ("first", Derived(DAY)), ("second", Derived(DAY))]


def test_handler_that_raises_is_logged_and_others_still_hear(caplog: pytest.LogCaptureFixture) -> None:
    heard = []

    @T.event_handler("mine")
    def broken() -> None:
        raise SystemExit

    @T.event_handler("mine")
    def sound() -> None:
        heard.append(1)

    with caplog.at_level(logging.ERROR):
        T(DAY).trigger_event("mine")
    assert heard == [1]
    assert "Error in event callback for 'mine'" in caplog.text


def test_no_unpicklable_properties_puts_them_aside_and_back() -> None:
    task = T(DAY)
    task.set_status_message = lambda text: None
    with task.no_unpicklable_properties():
        assert pickle.loads(pickle.dumps(task)) == task
    assert task.set_status_message is not None
    Register.clear_instance_cache()


def test_structures_as_values_are_frozen_and_identify() -> None:
    class S(Task):
        d: Any = DictParameter()
        li: Any = ListParameter(default=())

    one = S({"a": [1, {"b": 2}]}, [1, [2]])
    assert one is S({"a": (1, {"b": 2})}, (1, (2,)))
    assert (one.d["a"][1]["b"], one.li) == (2, (1, (2,)))
