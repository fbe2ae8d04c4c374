"""Exploring: what is found, how often tasks are asked, what is refused. Targets live in a set; no file is touched."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from jubako.errors import InputError
from jubako.flow.engine.disabling import Verdict
from jubako.flow.engine.engine import Engine
from jubako.flow.engine.engine_events import Found, Planned, Start
from jubako.flow.graph.graph import Graph, refuse_cycle
from jubako.flow.parameters import IntParameter, ListParameter, Parameter
from jubako.flow.stores.store_target import StoreTarget
from jubako.flow.targets.local_target import LocalTarget
from jubako.flow.targets.target import Target
from jubako.flow.tasks.event import Event
from jubako.flow.tasks.register import Register
from jubako.flow.tasks.task import ExternalTask, Task, WrapperTask

THERE: set[str] = set()
CALLS: Counter[str] = Counter()
ASKED: list[int] = []


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    Register.clear_instance_cache()
    THERE.clear()
    CALLS.clear()
    ASKED.clear()
    yield
    Register.clear_instance_cache()


class Named(Target):
    def __init__(self, name: str) -> None:
        self.name = name

    def exists(self) -> bool:
        if self.name == "cursed":
            raise OSError("no such server")
        return self.name in THERE


class Node(Task):
    """A task named `name` that requires nodes named in `needs`."""

    name = Parameter()
    needs = ListParameter(default=(), significant=False)

    def requires(self) -> Any:
        CALLS[f"requires {self.name}"] += 1
        return [NODES[name] for name in self.needs]

    def output(self) -> Any:
        return Named(self.name)

    def run(self) -> None:
        THERE.add(self.name)


class Outside(ExternalTask):
    name = Parameter()

    def output(self) -> Any:
        return Named(self.name)


class All(WrapperTask):
    needs = ListParameter(default=())

    def requires(self) -> Any:
        CALLS["requires All"] += 1
        return [NODES[name] for name in self.needs]


class Own(Task):
    answer = Parameter(significant=False)

    def complete(self) -> Any:
        CALLS["own complete"] += 1
        if self.answer == "raise":
            raise ValueError("cannot tell")
        return {"yes": True, "no": False}.get(self.answer, "maybe")


NODES: dict[str, Task] = {}


def make(**needs: str) -> None:
    """Nodes by name; each requires the letters of its text."""
    NODES.clear()
    NODES.update({name: Node(name, list(text)) for name, text in needs.items()})


def exist_many(targets: Sequence[Target]) -> list[bool]:
    ASKED.append(len(targets))
    return [target.exists() for target in targets]


def explore(*tasks: Task, **options: Any) -> tuple[Graph, dict[str, Found]]:
    graph = Graph(exist_many, **options)
    found = list(graph.explore(tasks))
    assert [event.task for event in found] == list(range(len(graph.tasks)))
    return graph, {str(getattr(graph.tasks[event.task], "name", graph.tasks[event.task])): event for event in found}


def test_explore_finds_everything_once_and_breadth_first() -> None:
    make(a="bc", b="d", c="d", d="")
    graph, found = explore(NODES["a"])
    assert [task.name for task in graph.tasks] == list("abcd")
    assert found["a"].dependencies == (1, 2)
    assert found["b"].dependencies == found["c"].dependencies == (3,)
    assert {name: CALLS[f"requires {name}"] for name in "abcd"} == dict.fromkeys("abcd", 1)


def test_explore_does_not_look_below_what_is_complete() -> None:
    make(a="b", b="c", c="")
    THERE.add("b")
    _graph, found = explore(NODES["a"])
    assert {name: event.standing for name, event in found.items()} == {"a": "pending", "b": "complete"}
    assert CALLS["requires b"] == 0


def test_explore_asks_for_a_whole_level_at_once() -> None:
    make(a="bcdef", b="", c="", d="", e="", f="")
    explore(NODES["a"])
    assert ASKED == [1, 5]


def test_explore_again_finds_only_what_is_new() -> None:
    make(a="b", b="", c="b")
    graph, _ = explore(NODES["a"])
    assert [event.task for event in graph.explore([NODES["c"], NODES["a"]])] == [2]
    assert graph.number(NODES["c"]) == 2


def test_wrapper_is_complete_when_all_it_requires_is() -> None:
    make(a="", b="")
    THERE.update("ab")
    _graph, found = explore(All(["a", "b"]))
    assert [event.standing for event in found.values()] == ["complete"]
    assert (CALLS["requires All"], ASKED) == (1, [2])


def test_wrapper_that_is_not_complete_is_asked_for_its_requirements_once() -> None:
    make(a="", b="")
    THERE.add("a")
    _, found = explore(All(["a", "b"]))
    assert [event.standing for event in found.values()] == ["pending", "complete", "pending"]
    assert (CALLS["requires All"], ASKED) == (1, [2])


def test_wrapper_of_nothing_is_complete() -> None:
    _, found = explore(All([]))
    assert [event.standing for event in found.values()] == ["complete"]


def test_wrappers_may_share_and_nest_in_any_order() -> None:
    make(a="", b="")
    NODES.update(inner=All(["a"]), outer=All(["b", "inner"]), top=All(["inner", "outer"]))
    THERE.update("ab")
    _, found = explore(NODES["top"])
    assert [event.standing for event in found.values()] == ["complete"]


@pytest.mark.parametrize(
    ("answer", "standing"), [("yes", "complete"), ("no", "pending"), ("raise", "broken"), ("?", "broken")]
)
def test_own_complete_is_called_once(answer: str, standing: str) -> None:
    graph, found = explore(Own(answer))
    assert [event.standing for event in found.values()] == [standing]
    assert CALLS["own complete"] == 1
    if standing == "broken":
        assert "cannot tell" in graph.broken[0].traceback or "must be boolean" in graph.broken[0].sentence


def test_missing_external_is_named_missing() -> None:
    make(a="x")
    NODES["x"] = Outside("x")
    _, found = explore(NODES["a"])
    assert found["x"].standing == "missing"
    THERE.add("x")
    Register.clear_instance_cache()
    make(a="x")
    NODES["x"] = Outside("x")
    assert explore(NODES["a"])[1]["x"].standing == "complete"


def test_requires_that_raises_breaks_that_task_alone() -> None:
    make(a="bc", b="?", c="")
    graph, found = explore(NODES["a"])
    assert {name: event.standing for name, event in found.items()} == {"a": "pending", "b": "broken", "c": "pending"}
    assert graph.broken[1].sentence == "requires() raised KeyError: '?'"
    assert "Traceback" in graph.broken[1].traceback


def test_requires_that_gives_a_target_says_what_to_do() -> None:
    class Wrong(Task):
        def requires(self) -> Any:
            return Named("x")

        def output(self) -> Any:
            return Named("wrong")

    graph, found = explore(Wrong())
    assert [event.standing for event in found.values()] == ["broken"]
    assert "gives a target" in graph.broken[0].sentence


def test_target_that_raises_breaks_its_task_and_no_other() -> None:
    make(a=["cursed", "b"], b="", cursed="")  # type: ignore[arg-type]  # names longer than a letter
    _, found = explore(NODES["a"])
    assert {name: event.standing for name, event in found.items()} == {
        "a": "pending",
        "b": "pending",
        "cursed": "broken",
    }


def test_events_of_discovery_are_luigis() -> None:
    make(a="bx", b="")
    NODES["x"] = Outside("x")
    THERE.add("b")
    seen: list[tuple[str, ...]] = []
    handlers = [
        (Event.DEPENDENCY_DISCOVERED, lambda task, other: seen.append(("discovered", task.name, other.name))),
        (Event.DEPENDENCY_PRESENT, lambda task: seen.append(("present", task.name))),
        (Event.DEPENDENCY_MISSING, lambda task: seen.append(("missing", task.name))),
    ]
    for event, handler in handlers:
        Task.event_handler(event)(handler)
    try:
        explore(NODES["a"])
    finally:
        for event, handler in handlers:
            Task.remove_event_handler(event, handler)
    assert seen == [("discovered", "a", "b"), ("discovered", "a", "x"), ("present", "b"), ("missing", "x")]


def test_cycle_is_refused_with_the_tasks_in_it_and_only_those() -> None:
    make(top="a", a="b", b="c", c="a", d="")
    graph = Graph(exist_many)
    engine = Engine(slots=1)
    for found in graph.explore([NODES["top"]]):
        engine.handle(found, 0.0)
    with pytest.raises(
        InputError, match=r"ring: Node\(name=a\) -> Node\(name=b\) -> Node\(name=c\) -> Node\(name=a\)$"
    ):
        refuse_cycle(engine, graph.tasks)


def test_cycle_of_wrappers_is_refused_too() -> None:
    NODES.clear()
    NODES.update(w=All(["v"]), v=All(["w"]))
    NODES["v"], NODES["w"] = All(["w"]), All(["v"])
    graph = Graph(exist_many)
    engine = Engine(slots=1)
    for found in graph.explore([NODES["w"]]):
        engine.handle(found, 0.0)
    with pytest.raises(InputError, match="ring"):
        refuse_cycle(engine, graph.tasks)


def test_cycle_that_also_misses_something_is_still_a_cycle() -> None:
    make(a="b", b="ax")
    NODES["x"] = Outside("x")
    graph = Graph(exist_many)
    engine = Engine(slots=1)
    for found in graph.explore([NODES["a"]]):
        engine.handle(found, 0.0)
    with pytest.raises(InputError, match="ring"):
        refuse_cycle(engine, graph.tasks)


def test_chain_deeper_than_the_recursion_limit_is_no_problem() -> None:
    depth = sys.getrecursionlimit() * 3

    class Link(Task):
        n = IntParameter()

        def requires(self) -> Any:
            return Link(self.n + 1) if self.n < depth else []

        def output(self) -> Any:
            return Named(f"link {self.n}")

    class Chain(WrapperTask):
        n = IntParameter()

        def requires(self) -> Any:
            return Chain(self.n + 1) if self.n < depth else Link(depth)

    graph = Graph(exist_many)
    engine = Engine(slots=1)
    for found in graph.explore([Link(0), Chain(0)]):
        engine.handle(found, 0.0)
    refuse_cycle(engine, graph.tasks)
    assert [i for i in engine.handle(Planned(), 0.0) if isinstance(i, Start)] == [Start(graph.number(Link(depth)))]


class Makes(Task):
    path = Parameter()
    who = Parameter()

    def output(self) -> Any:
        return LocalTarget(self.path)

    def run(self) -> None:
        raise NotImplementedError


class Mirrors(WrapperTask):
    """Declares what another task makes, and makes nothing."""

    def requires(self) -> Any:
        return Makes("/x/a", "1")

    def output(self) -> Any:
        return LocalTarget("/x/a")


def test_equal_and_nested_outputs_are_refused_with_all_names_at_once() -> None:
    tasks = [Makes("/x/a", "1"), Makes("/x/a", "2"), Makes("/x/a/b", "3"), Makes("/x/c", "4")]
    with pytest.raises(InputError) as caught:
        explore(*tasks)
    assert caught.value.message == (
        "Makes(path=/x/a, who=1) and Makes(path=/x/a, who=2) both make /x/a; "
        "Makes(path=/x/a, who=1) makes /x/a, and Makes(path=/x/a/b, who=3) makes /x/a/b inside it"
    )


def test_outputs_in_stores_are_refused_too_where_two_tasks_make_them() -> None:
    class Sends(Makes):
        def output(self) -> Any:
            return StoreTarget(f"memory://{self.path}")

    with pytest.raises(InputError, match=r"Sends.path=a, who=1. makes memory://a, and Sends.path=a/b, who=2. makes "):
        explore(Sends("a", "1"), Sends("a/b", "2"))


def test_task_that_makes_nothing_may_declare_what_another_makes() -> None:
    _, found = explore(Mirrors())
    assert len(found) == 2


def test_shared_outputs_can_be_serialised() -> None:
    _graph, found = explore(Makes("/x/a", "1"), Makes("/x/a", "2"), shared_outputs="serialise")
    needs = [event.needs for event in found.values()]
    assert needs == [(("output:/x/a", 1),), (("output:/x/a", 1),)]


def test_priority_resources_and_retries_reach_the_engine() -> None:
    class Picky(Task):
        priority = 7
        resources = {"db": 2}  # noqa: RUF012
        retry_count = 3

        def output(self) -> Any:
            return Named("picky")

    _, found = explore(Picky())
    (event,) = found.values()
    assert (event.priority, event.needs, event.attempts) == (7, (("db", 2),), 3)


def test_priority_that_raises_breaks_its_task_alone() -> None:
    class Odd(Node):
        @property
        def priority(self) -> Any:
            raise ZeroDivisionError("no idea")

    make(a="")
    graph, _ = explore(Odd("odd"), NODES["a"])
    assert graph.broken[0].sentence == "asking for its priority and resources raised ZeroDivisionError: no idea"
    assert list(graph.broken) == [0]


def test_find_complete_asks_and_adds_nothing() -> None:
    make(a="", b="")
    THERE.add("b")
    graph = Graph(exist_many)
    assert graph.find_complete([NODES["a"], NODES["b"]]) == [NODES["b"]]
    assert (graph.tasks, graph.has(NODES["b"])) == ([], False)


def test_disabled_task_is_found_disabled_unless_it_is_done() -> None:
    class Off(Task):
        disabled = True

        def output(self) -> Any:
            return Named("off")

    assert next(iter(explore(Off())[1].values())).standing == "disabled"
    THERE.add("off")
    assert next(iter(explore(Off())[1].values())).standing == "complete"


def test_what_a_disabled_task_requires_is_found_all_the_same() -> None:
    make(a="")

    class Off(Node):
        disabled = True

    graph, found = explore(Off(name="off", needs=["a"]))
    assert [event.standing for event in found.values()] == ["disabled", "pending"]
    assert graph.disabled == {0}


def test_task_that_has_failed_too_often_is_found_disabled_and_what_it_requires_is_not() -> None:
    make(a="", b="a")
    graph, found = explore(NODES["b"], judge=lambda task: Verdict(0, 9.0) if task is NODES["b"] else Verdict())
    assert [event.standing for event in found.values()] == ["disabled", "pending"]
    assert (graph.disabled, graph.disabled_until_s) == ({0}, {0: 9.0})


def test_retry_count_that_is_obeyed_is_cut_by_how_often_a_task_may_fail_before_it_is_disabled() -> None:
    class Stubborn(Node):
        retry_count = 5

    (found,) = Graph(exist_many, judge=lambda task: Verdict(3)).explore([Stubborn(name="s")])
    assert found.attempts == 3


def test_disabled_task_that_cannot_be_asked_is_disabled() -> None:
    class Off(Node):
        disabled = True

        def requires(self) -> Any:
            raise ValueError("requires")

    for name in ("cursed", "off"):
        graph, found = explore(Off(name=name))
        assert [event.standing for event in found.values()] == ["disabled"]
        assert graph.broken == {}


def test_retry_count_of_a_task_counts_only_where_it_is_obeyed() -> None:
    class Stubborn(Node):
        retry_count = 5

    for obeys, attempts in ((True, 5), (False, 2)):
        (found,) = Graph(exist_many, attempts=2, obeys_retry_count=obeys).explore([Stubborn(name="s")])
        assert found.attempts == attempts


@pytest.mark.parametrize("what", [object(), Node])
def test_what_is_not_a_task_is_refused(what: Any) -> None:
    with pytest.raises(InputError, match="is not a task"):
        explore(what)


def test_task_that_forgot_its_init_is_refused() -> None:
    class Forgot(Task):
        def __init__(self) -> None:
            pass

    with pytest.raises(InputError, match="not initialized"):
        explore(Forgot())
