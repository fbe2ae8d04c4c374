"""Records: in every way that counts they behave as the standard frozen dataclasses with slots do."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jubako.boxes.spec import StagedOutput
from jubako.records import as_dict, field, record, replace


@record
class Sack:
    name: str
    weight: int = 0
    things: list[str] = field(default_factory=list)

    def describe(self) -> str:
        return f"{self.name}: {len(self.things)} things"


@record(frozen=False)
class Counter:
    count: int = 0


@record(frozen=False, kw_only=True)
class Keyed:
    label: str = ""
    number: int


@record
class Checked:
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low above high")
        object.__setattr__(self, "high", self.high * 10)


@record
class Nothing:
    pass


NAMES = ("a", "b", "c", "d")
VALUES = st.one_of(st.integers(), st.text(max_size=3), st.none(), st.tuples(st.integers()))


@st.composite
def shapes(draw: st.DrawFn) -> tuple[dict[str, Any], bool, bool]:
    """The body of a class with up to four fields and some defaults; whether it is frozen; whether by name only."""
    count, kw_only = draw(st.integers(0, 4)), draw(st.booleans())
    first = draw(st.integers(0, count))  # that has a default
    body = {name: draw(st.one_of(VALUES, st.just(list))) for name in NAMES[first:count]}
    return {"__annotations__": dict.fromkeys(NAMES[:count], "object"), **body}, draw(st.booleans()), kw_only


def made_of(shape: tuple[dict[str, Any], bool, bool], *, ours: bool) -> Any:
    body, frozen, kw_only = shape
    make_anew: Callable[..., Any] = field if ours else dataclasses.field
    body = {name: make_anew(default_factory=value) if value is list else value for name, value in body.items()}
    cls = type("Shape", (), body)
    if ours:
        return record(frozen=frozen, kw_only=kw_only)(cls)
    return dataclasses.dataclass(frozen=frozen, kw_only=kw_only, slots=True)(cls)


def outcome(act: Callable[[], Any]) -> Any:
    """What it returns, or the type of what it raises."""
    try:
        return act()
    except (TypeError, AttributeError) as error:
        return AttributeError if isinstance(error, AttributeError) else TypeError


def facts_of(cls: Any, positional: list[Any], named: dict[str, Any], value: Any, often: bool) -> list[object]:
    """All that can be seen of a class's record, and what happens when its fields are set and deleted."""
    for _ in range(20 if often else 1):  # a class that is constructed often gets an `__init__` of its own
        made = outcome(lambda: cls(*positional, **named))
    if made is TypeError:
        return [TypeError]
    again = cls(*positional, **named)
    return [
        [getattr(made, name) for name in cls.__slots__],
        cls.__match_args__,
        [(each.name, each.kind, each.default is each.empty) for each in inspect.signature(cls).parameters.values()],
        repr(made).rpartition(".")[2],
        made == again,
        made == object(),
        made != [getattr(made, name) for name in cls.__slots__],
        outcome(lambda: hash(made) == hash(again)),
        [outcome(lambda name=name: setattr(made, name, value)) for name in cls.__slots__],
        made == again,
        [outcome(lambda name=name: delattr(made, name)) for name in cls.__slots__],
        [outcome(lambda name=name: getattr(made, name)) for name in cls.__slots__],
    ]


FEW = settings(max_examples=50)  # each defines two classes


@FEW
@given(
    shapes(),
    st.lists(VALUES, max_size=5),
    st.dictionaries(st.sampled_from((*NAMES, "x")), VALUES, max_size=3),
    VALUES,
    st.booleans(),
)
def test_record_of_any_shape_behaves_as_the_dataclass_of_that_shape(
    shape: tuple[dict[str, Any], bool, bool], positional: list[Any], named: dict[str, Any], value: Any, often: bool
) -> None:
    ours, theirs = (facts_of(made_of(shape, ours=ours), positional, named, value, often) for ours in (True, False))
    assert ours == theirs


@FEW
@given(shapes(), st.lists(VALUES, max_size=4), VALUES)
def test_replace_of_any_shape_gives_what_the_one_of_dataclasses_gives(
    shape: tuple[dict[str, Any], bool, bool], positional: list[Any], value: Any
) -> None:
    ours, theirs = (made_of(shape, ours=ours) for ours in (True, False))
    named = dict(zip(theirs.__slots__, positional, strict=False))
    if outcome(lambda: theirs(**named)) is not TypeError and theirs.__slots__:
        assert as_dict(replace(ours(**named), a=value)) == dataclasses.asdict(
            dataclasses.replace(theirs(**named), a=value)
        )
        assert outcome(lambda: replace(ours(**named), x=value)) is TypeError


def test_record_has_no_place_for_other_attributes() -> None:
    assert not hasattr(Sack("a"), "__dict__")
    with pytest.raises(AttributeError):
        Counter().other = 1  # type: ignore[attr-defined]


def test_default_made_anew_is_not_shared() -> None:
    one, two = Sack("one"), Sack("two")
    one.things.append("stone")
    assert (one.things, two.things) == (["stone"], [])


def test_post_init_may_check_and_set_and_runs_once() -> None:
    assert Checked(1, 2).high == 20
    assert pickle.loads(pickle.dumps(Checked(1, 2))).high == 20
    with pytest.raises(ValueError, match="low above high"):
        Checked(2, 1)


def test_records_of_two_classes_with_the_same_values_differ() -> None:
    assert made_of(({"__annotations__": {"count": "int"}}, False, False), ours=True)(0) != Counter(0)


def test_methods_a_class_has_of_its_own_are_kept() -> None:
    @record
    class Named:
        name: str

        def __init__(self) -> None:
            object.__setattr__(self, "name", "mine")

        def __repr__(self) -> str:
            return "<mine>"

    assert (Named().name, repr(Named()), Named() == Named()) == ("mine", "<mine>", True)


def test_match_takes_a_record_apart() -> None:
    match Sack("a", 3):
        case Sack(name, weight):
            assert (name, weight) == ("a", 3)


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (Sack, "Sack.__init__() missing 1 required positional argument: 'name'"),
        (lambda: Sack("a", colour=1), "Sack.__init__() got an unexpected keyword argument 'colour'"),  # type: ignore[call-arg]
        (lambda: Sack(1, 2, [], 4), "Sack.__init__() takes from 2 to 4 positional arguments but 5 were given"),  # type: ignore[call-arg]
        (Keyed, "Keyed.__init__() missing 1 required keyword-only argument: 'number'"),
        (lambda: Keyed(1), "Keyed.__init__() takes 1 positional argument but 2 were given"),  # type: ignore[misc]
        (lambda: replace(Counter(), size=1), "Counter.__init__() got an unexpected keyword argument 'size'"),
    ],
)
def test_wrong_arguments_name_the_class(act: Callable[[], object], text: str) -> None:
    for _ in range(2):  # the first construction makes the `__init__`, the second only uses it
        with pytest.raises(TypeError) as caught:
            act()
        assert str(caught.value) == text


def test_frozen_record_that_is_assigned_to_says_so() -> None:
    with pytest.raises(AttributeError, match=r"^Sack is frozen: 'name' can't be set$"):
        Sack("a").name = "b"  # type: ignore[misc]
    with pytest.raises(AttributeError, match=r"^Sack is frozen: 'name' can't be deleted$"):
        del Sack("a").name


@pytest.mark.parametrize("count", [0, 20])  # a class that is constructed often gets an `__init__` of its own
def test_signature_names_fields_with_their_types_and_defaults(count: int) -> None:
    for _ in range(count):
        Sack("a")
        Keyed(number=1)
    assert str(inspect.signature(Sack)) == "(name: 'str', weight: 'int' = 0, things: 'list[str]' = [])"
    assert str(inspect.signature(Keyed)) == "(*, label: 'str' = '', number: 'int')"


def test_class_that_inherits_is_refused() -> None:
    with pytest.raises(TypeError, match="it inherits from another class"):
        record(type("Below", (Counter,), {"__annotations__": {"a": "int"}}))


def test_field_without_a_default_behind_one_with_a_default_is_refused() -> None:
    with pytest.raises(TypeError, match="a field without a default follows 'a'"):
        record(type("Wrong", (), {"__annotations__": {"a": "int", "b": "int"}, "a": 1}))


@pytest.mark.parametrize("made", [Sack("a", 2, ["x"]), Counter(7), Keyed(number=4), Checked(1, 2), Nothing()], ids=repr)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_record_that_was_pickled_or_copied_is_the_same(made: Any, protocol: int) -> None:
    assert pickle.loads(pickle.dumps(made, protocol)) == made
    assert copy.copy(made) == copy.deepcopy(made) == made


def test_pickle_of_a_record_is_no_longer_than_that_of_a_dataclass(monkeypatch: pytest.MonkeyPatch) -> None:
    for values in ((1,), (1, "two", None)):
        sizes = []
        for ours in (True, False):
            cls = made_of(({"__annotations__": dict.fromkeys(NAMES[: len(values)], "object")}, True, False), ours=ours)
            cls.__module__ = __name__
            monkeypatch.setattr(sys.modules[__name__], "Shape", cls, raising=False)  # pickle finds classes by name
            sizes.append(len(pickle.dumps(cls(*values), pickle.HIGHEST_PROTOCOL)))
        assert sizes[0] <= sizes[1]


def test_pickle_of_a_record_is_read_in_another_process() -> None:
    sent = StagedOutput("/a/b", "file", "/stage/0")
    script = "import pickle, sys; got = pickle.load(sys.stdin.buffer); sys.stdout.write(repr(got))"
    done = subprocess.run([sys.executable, "-c", script], input=pickle.dumps(sent), capture_output=True, check=True)
    assert done.stdout.decode() == repr(sent)


def test_import_of_records_takes_nothing_heavy_along() -> None:
    script = "import sys; before = set(sys.modules); import jubako.records; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {
        *("jubako", "jubako._version", "jubako.records"),
        *("__future__", "operator", "_operator"),
    }
