"""Tasks whose annotations are parameters: which are some, in which order, and that they equal classic ones."""

from __future__ import annotations

import datetime
import enum
import sys
from pathlib import Path
from types import FunctionType
from typing import Annotated, Any, ClassVar, Final, Literal, Protocol

import pytest
from click.testing import CliRunner

import jubako
from jubako import Box, DateInterval, Host, LocalTarget, Month
from jubako.cli.main import jubako as command_line
from jubako.errors import InputError
from jubako.flow.backfills.backfill import find_dated_parameter
from jubako.flow.loader import load_pipeline
from jubako.flow.parameters import (
    AnnotationException,
    DateHourParameter,
    DateIntervalParameter,
    DateParameter,
    DateSecondParameter,
    DictParameter,
    EnumParameter,
    FloatParameter,
    IntParameter,
    InvalidParameterException,
    ListParameter,
    MissingParameterException,
    Parameter,
    ParameterVisibility,
    PathParameter,
    TimeDeltaParameter,
    TupleParameter,
    UnknownParameterException,
    values_from,
)
from jubako.flow.ranges.range import RangeDaily, RangeHourly
from jubako.flow.tasks import task as classic
from jubako.flow.tasks.event import Event
from jubako.flow.tasks.task_reference import refer
from jubako.flow.tasks.typed import Config, ExternalTask, Task, WrapperTask

DAY = datetime.date(2010, 1, 2)
OUTSIDE = Path(__file__)  # a value the annotations below must not be mistaken for


class Colour(enum.Enum):
    RED = 1


class Everything(Task):
    date: datetime.date
    interval: DateInterval
    n: int
    rate: float
    at: datetime.datetime
    hour: Annotated[datetime.datetime, DateHourParameter()]
    delta: datetime.timedelta
    path: Path
    kind: Colour
    tags: tuple[str, ...]
    names: list[str]
    options: dict[str, Any]
    city: str = "seattle"
    on: bool = False
    x: int | None = None


class Classic(classic.Task):
    date = DateParameter()
    interval = DateIntervalParameter()
    n = IntParameter()
    rate = FloatParameter()
    at = DateSecondParameter()
    hour = DateHourParameter()
    delta = TimeDeltaParameter()
    path = PathParameter()
    kind = EnumParameter(enum=Colour)
    tags: Any = TupleParameter()
    names: Any = ListParameter()
    options: Any = DictParameter()
    city = Parameter(default="seattle")
    on = jubako.BoolParameter()
    x = jubako.OptionalIntParameter()


VALUES: tuple[Any, ...] = (
    *(DAY, Month(2010, 1), 5, 0.5, datetime.datetime(2010, 1, 2, 3, 4, 5), datetime.datetime(2010, 1, 2, 3)),
    *(datetime.timedelta(hours=3), Path("a"), Colour.RED, ("a",), ["b"], {"c": [1, {}]}),
)


def names_of(cls: Any) -> list[str]:
    return cls.get_param_names(include_significant=True)  # type: ignore[no-any-return]


def test_typed_task_has_the_texts_and_the_id_of_the_classic_one() -> None:
    typed, plain = Everything(*VALUES), Classic(*VALUES)
    assert names_of(Everything) == names_of(Classic)
    assert typed.to_str_params() == plain.to_str_params()
    assert typed.task_id.partition("_")[2] == plain.task_id.partition("_")[2]
    assert repr(typed).partition("(")[2] == repr(plain).partition("(")[2]
    assert list(typed.param_kwargs.values()) == list(plain.param_kwargs.values())


def test_typed_task_is_made_again_from_its_texts_its_values_and_its_reference() -> None:
    task = Everything(*VALUES, x=3, on=True)
    assert Everything.from_str_params(task.to_str_params()) is task
    assert task.clone() is task
    assert refer(task).resolve() is task
    assert Everything(**task.param_kwargs) is task


def test_bare_annotations_and_parameter_objects_count_in_the_order_of_the_body() -> None:
    class Base(Task):
        date: datetime.date
        first = IntParameter(default=1)
        second: int
        third = IntParameter(default=3)
        fourth: int = 4

    class Derived(Base):
        fifth = IntParameter(default=5)
        second: int = 22
        sixth: str = "6"

    assert names_of(Base) == ["date", "first", "second", "third", "fourth"]
    assert Base(DAY, 7, 8).second == 8
    # As in dataclasses, and so to type checkers: what replaces an inherited parameter keeps its place.
    assert names_of(Derived) == ["date", "first", "second", "third", "fourth", "fifth", "sixth"]
    assert Derived(DAY).second == 22
    assert Base(DAY, 7, 8) is not Base(DAY, 7, 9)


def test_body_may_be_one_without_postponed_annotations() -> None:
    body = "class Made(Task):\n    n: int\n    m = IntParameter(default=2)\n    day: Annotated[date, 'the day']\n"
    names = {"Task": Task, "IntParameter": IntParameter, "Annotated": Annotated, "date": datetime.date}
    exec(compile(body, "made.py", "exec", dont_inherit=True), names)
    made: Any = names["Made"]
    assert names_of(made) == ["n", "m", "day"]
    assert made.day.description == "the day"


def test_annotations_are_resolved_where_the_class_stands() -> None:
    class Local(enum.Enum):
        A = 1

    class Made(Task):
        class Own(enum.Enum):
            B = 1

        local: Local
        own: Own
        date: datetime.date = DAY

    assert Made(Local.A, Made.Own.B).to_str_params() == {"local": "A", "own": "B", "date": "2010-01-02"}


def test_class_made_by_a_call_has_its_annotated_parameters_behind_its_parameter_objects() -> None:
    made = type(Task)(
        "Made", (Task,), {"__annotations__": {"n": int, "m": str}, "m": "x", "p": IntParameter(default=1)}
    )
    assert names_of(made) == ["p", "n", "m"]


def test_what_is_no_parameter_is_left_alone() -> None:
    class Base(Task):
        table = "plain"

        @property
        def size(self) -> int:
            return 1

    class Mixin:
        mixed: int = 1

    class Made(Mixin, Base):
        table: str = "still plain"
        size: int = 5  # type: ignore[misc, assignment]  # that this replaces a property isn't what is asked here
        priority: int = 5
        resources: dict[str, int] = {"cpu": 1}  # noqa: RUF012
        box: Box = Box(Host())
        counter: ClassVar[int] = 3
        other: "ClassVar[Undefined]" = 3  # type: ignore[name-defined]  # noqa: F821, UP037
        LIMIT: Final = 4
        _private: int = 5
        method: Any = lambda self: self.n
        classic: Any = IntParameter(default=1)
        n: int = 6

    assert names_of(Made) == ["classic", "n"]
    assert (Made.priority, Made.table, Made.counter, Made.LIMIT, Made._private, Made.size) == (
        *(5, "still plain", 3, 4, 5, 5),
    )
    assert isinstance(vars(Made)["method"], FunctionType)
    assert Made().method() == 6
    assert Made.__annotations__["n"] == "int"
    assert type(Made.__annotations__) is dict


def test_annotations_of_classes_below_luigis_task_mean_nothing() -> None:
    class Table(classic.Task):
        batch: int = 100
        resources: dict[str, int] = {}  # noqa: RUF012
        date: datetime.date = DateParameter()  # type: ignore[assignment]
        bare: int

    class Typed(Table, Task):
        batch: int = 7
        more: int = 1

    assert names_of(Table) == ["date"]
    assert names_of(Typed) == ["date", "more"]
    assert (Table(DAY).batch, Typed(DAY, 5).batch) == (100, 7)


def test_plain_value_in_a_subclass_ends_a_parameter_as_in_luigi() -> None:
    class Base(Task):
        n: int
        city: str = "Oslo"

    class Fixed(Base):
        city = "Rome"

    class Still(Fixed):
        city: str = "Bonn"

    assert (names_of(Fixed), names_of(Still)) == (["n"], ["n"])
    assert Still(1).city == "Bonn"


def test_every_task_is_a_task_of_jubako() -> None:
    class Classic(classic.Task):
        pass

    seen: list[Any] = []
    Task.event_handler(Event.SUCCESS)(seen.append)
    Classic().trigger_event(Event.SUCCESS, "happened")
    assert seen == ["happened"]
    assert issubclass(RangeDaily, Task)
    assert not issubclass(int, Task)
    assert not issubclass(Classic, ExternalTask)
    assert issubclass(ExternalTask, classic.ExternalTask)
    assert ExternalTask.run is None


def test_externals_wrappers_and_settings_are_typed_too() -> None:
    class Raw(ExternalTask):
        n: int

    class All(WrapperTask):
        n: int

    class server(Config):
        port: int = 80
        host: str = "here"

    assert (Raw(1).n, All(2).n, Raw(1).run, All(2).complete()) == (1, 2, None, True)
    with values_from({("server", "port"): "8080"}):
        assert server().port == 8080


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message", "hint"),
    [
        ({"n": "5"}, "n must be int, not '5' (str)", "texts are read by Everything.from_str_params"),
        ({"n": True}, "n must be int, not True (bool)", ""),
        ({"date": 5}, "date must be datetime.date, not 5 (int)", ""),
        ({"x": "a"}, "x must be int | None, not 'a' (str)", "texts are read by Everything.from_str_params"),
        ({"tags": ("a", 1)}, "tags must be tuple[str, ...], not ('a', 1) (tuple)", ""),
        ({"kind": 1}, "kind must be Colour, not 1 (int)", ""),
        ({"on": 0}, "on must be bool, not 0 (int)", ""),
        ({"names": ["a" * 99, 1]}, f"names must be list[str], not ['{'a' * 75}... (list)", ""),
    ],
)
def test_value_of_the_wrong_type_is_refused_with_its_names(wrong: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(InvalidParameterException) as caught:
        Everything(**dict(zip(names_of(Everything), VALUES, strict=False)) | wrong)
    assert (caught.value.message, caught.value.hint) == (f"Everything: {message}", hint)


def test_positional_value_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(InvalidParameterException, match=r"Everything: date must be datetime\.date, not '2010-01-02'"):
        Everything("2010-01-02", *VALUES[1:])  # type: ignore[arg-type]


def test_value_that_is_concealed_is_not_shown_when_it_is_refused() -> None:
    class Secretive(Task):
        password: Annotated[str, Parameter(visibility=ParameterVisibility.PRIVATE)]

    with pytest.raises(InvalidParameterException) as caught:
        Secretive(password=12345)  # type: ignore[arg-type]
    assert caught.value.message == "Secretive: password must be str, not *** (int)"


def test_setting_of_the_wrong_type_is_refused() -> None:
    class Made(Task):
        tags: tuple[int, ...] = ()

    with (
        values_from({("Made", "tags"): '["a"]'}),
        pytest.raises(InvalidParameterException, match=r"Made: tags must be tuple\[int, \.\.\.\], not \('a',\)"),
    ):
        Made()


def test_missing_and_unknown_parameters_are_refused_as_classic_ones_are() -> None:
    class Made(Task):
        n: int

    with pytest.raises(MissingParameterException, match="requires the 'n' parameter to be set"):
        Made()  # type: ignore[call-arg]
    with pytest.raises(UnknownParameterException, match="unknown parameter m"):
        Made(n=1, m=2)  # type: ignore[call-arg]


def test_keyword_only_parameters_take_no_place() -> None:
    class Base(Task):
        n: int = 1

    class Made(Base, kw_only=True):
        date: datetime.date

    assert Made(2, date=DAY).n == 2
    with pytest.raises(UnknownParameterException, match="takes at most 1 parameters"):
        Made(2, DAY)  # type: ignore[misc, call-arg]


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
@pytest.mark.parametrize(
    ("body", "message", "hint"),
    [
        ("when: complex", "no parameter reads complex", "Annotated[TYPE, SomeParameter()]"),
        ("n: int = None", "its default None is not int", "write int | None"),
        ("n: list[int | str] | int", "no parameter reads list[int | str] | int: it may be of several types", "Annotat"),
        ("n: 'Nowhere'", "there is no Nowhere for ", "what an annotation names is defined above the class"),
        ("n: 'a b'", " is no type: ", "ClassVar"),
        ("n: 'Task.nothing'", " is no type: type object 'Task' has no attribute 'nothing'", "ClassVar"),
    ],
)
def test_annotation_no_parameter_fits_is_refused_with_file_class_and_attribute(
    tmp_path: Path, future: str, body: str, message: str, hint: str
) -> None:
    file = tmp_path / f"annotated_{len(message)}_{len(future)}.py"
    file.write_text(f"{future}from jubako import Task\n\n\nclass Daily(Task):\n    {body}\n")
    with pytest.raises(AnnotationException) as caught:
        load_pipeline(str(file))
    name = body.partition(":")[0]
    assert caught.value.message.startswith(f"{file}:{5 if future else 4}: Daily.{name}: ")
    assert message in caught.value.message
    assert caught.value.hint.startswith(hint)
    assert file.stem not in sys.modules


# --- command line, ranges, backfill ----------------------------------------------------------------------------------

PIPELINE = '''
from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Literal

from jubako import LocalTarget, Parameter, Task

HERE = Path(__file__).parent


class Daily(Task):
    """One day's work."""

    date: Annotated[datetime.date, "the day to make"]
    how: Literal["sum", "mean"] = "sum"
    tags: tuple[str, ...] = ()
    loud: bool = False
    limit: int | None = None
    since: datetime.date | None = None

    def output(self) -> LocalTarget:
        return LocalTarget(HERE / f"{self.date}.txt")

    def run(self) -> None:
        with self.output().open("w") as file:
            file.write(f"{self.how} {self.tags} {self.loud} {self.limit} {self.since}")
'''


class Invoke(Protocol):
    def __call__(self, *words: str) -> Any: ...


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    (tmp_path / "typed_daily.py").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUBAKO_STATE", str(tmp_path / "state"))
    monkeypatch.delitem(sys.modules, "typed_daily", raising=False)
    return lambda *words: CliRunner().invoke(command_line, [*words])


def test_help_lists_typed_parameters_with_their_forms(invoke: Invoke) -> None:
    text = " ".join(invoke("run", "typed_daily.py", "Daily", "--help").output.split())
    assert "--date YYYY-MM-DD the day to make [required]" in text
    assert "--how CHOICE Choices: {sum, mean} [default: sum]" in text
    assert "--tags JSON [default: []]" in text
    assert "--loud / --no-loud" in text
    assert "--limit INTEGER" in text
    assert "--since YYYY-MM-DD" in text


def test_options_of_a_typed_task_are_read(invoke: Invoke, tmp_path: Path) -> None:
    words = ("--date", "2010-01-02", "--how", "mean", "--tags", '["a"]', "--loud", "--limit", "3")
    result = invoke("run", "typed_daily.py", "Daily", *words, "--box", "none")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "2010-01-02.txt").read_text() == "mean ('a',) True 3 None"


def test_option_of_the_wrong_type_is_wrong_input(invoke: Invoke) -> None:
    error = invoke("run", "typed_daily.py", "Daily", "--date", "2010-01-02", "--tags", "[1]").exception
    assert isinstance(error, InputError)
    assert error.message == "Daily: tags must be tuple[str, ...], not (1,) (tuple)"


def test_backfill_and_ranges_go_through_a_typed_date(invoke: Invoke, tmp_path: Path) -> None:
    between = ("--from", "2010-01-01", "--to", "2010-01-04")
    result = invoke("backfill", "typed_daily.py", "Daily", *between, "--box", "none")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == [f"2010-01-0{day}.txt" for day in (1, 2, 3)]
    family = load_pipeline("typed_daily.py").tasks["Daily"]
    ends = {"start": datetime.date(2010, 1, 1), "stop": datetime.date(2010, 1, 6), "days_back": 99999}
    assert [task.date.day for task in RangeDaily(of=family, **ends).requires()] == [4, 5]


def test_date_that_may_be_missing_is_none_to_go_through() -> None:
    class Open(Task):
        since: datetime.date | None = None

    with pytest.raises(InputError, match="Open has no parameter for a date"):
        find_dated_parameter(Open)


def test_hours_are_gone_through_at_either_precision() -> None:
    class Hourly(Task):
        at: datetime.datetime

        def output(self) -> LocalTarget:
            return LocalTarget(f"nowhere/{self.at:%Y-%m-%dT%H}.txt")

    start = datetime.datetime(2010, 1, 1, 22)
    hours = RangeHourly(of=Hourly, start=start, stop=datetime.datetime(2010, 1, 2), hours_back=9_999_999)
    assert [task.at for task in hours.requires()] == [start, start.replace(hour=23)]


def test_literal_of_numbers_is_read_as_one() -> None:
    class Made(Task):
        level: Literal[1, 2]

    assert Made.from_str_params({"level": "2"}) is Made(2)
