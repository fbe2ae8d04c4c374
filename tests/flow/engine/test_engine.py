"""The engine as a value machine: no clock, no process. Random graphs are in `test_engine_same_as_plain`."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.errors import BugError
from jubako.flow.engine.backoff import Backoff
from jubako.flow.engine.engine import Engine
from jubako.flow.engine.engine_events import (
    Cancelled,
    Elsewhere,
    Entangled,
    Failed,
    Found,
    GiveUp,
    Instruction,
    Pause,
    Planned,
    Published,
    Ran,
    Resume,
    Start,
    Stop,
    There,
    Tick,
    Yielded,
)
from jubako.flow.engine.transitions import (
    BLAME_DENIED,
    BLAME_FAILED,
    BLAME_MISSING,
    BLAME_SCHEDULING,
    BLAME_SCHEDULING_DIRECT,
    State,
)


def plan(engine: Engine, *found: Found) -> list[Instruction]:
    said: list[Instruction] = []
    for event in found:
        said += engine.handle(event, 0.0)
    return said + engine.handle(Planned(), 0.0)


def test_nothing_starts_before_planned() -> None:
    engine = Engine(slots=1)
    assert engine.handle(Found(0), 0.0) == []
    assert engine.handle(Planned(), 0.0) == [Start(0)]


def test_paused_engine_starts_nothing_until_it_goes_on_and_is_not_over() -> None:
    engine = Engine(slots=2, backoff=Backoff(5))
    assert plan(engine, Found(0, attempts=2), Found(1), Found(2), Found(3, dependencies=(1,))) == [Start(0), Start(1)]
    assert engine.handle(Pause(), 0.0) == []
    assert engine.handle(Failed(0), 0.0) == []
    assert engine.handle(Published(1), 0.0) == []
    assert engine.handle(Tick(), 9.0) == []
    assert engine.next_due_s is None
    assert not engine.is_over
    assert engine.handle(Resume(), 10.0) == [Start(0), Start(2)]


def test_paused_engine_that_is_stopped_is_over_when_nothing_runs() -> None:
    engine = Engine(slots=1)
    plan(engine, Found(0), Found(1))
    engine.handle(Pause(), 0.0)
    engine.handle(Stop(), 0.0)
    assert not engine.is_over
    engine.handle(Cancelled(0), 0.0)
    assert engine.is_over
    assert engine.handle(Resume(), 0.0) == []


def test_dependents_start_after_published_and_not_after_ran() -> None:
    engine = Engine(slots=2)
    assert plan(engine, Found(0, dependencies=(1, 2)), Found(1), Found(2)) == [Start(1), Start(2)]
    assert engine.handle(Published(1), 0.0) == []
    assert engine.handle(Ran(2), 0.0) == []
    assert engine.handle(Published(2), 0.0) == [Start(0)]
    engine.handle(Published(0), 0.0)
    assert engine.is_over
    assert engine.count(State.DONE) == 3


def test_ran_frees_the_slot_while_publishing_goes_on() -> None:
    engine = Engine(slots=1)
    assert plan(engine, Found(0), Found(1)) == [Start(0)]
    assert engine.handle(Ran(0), 0.0) == [Start(1)]
    assert not engine.is_over


def test_higher_priority_starts_first_and_ties_go_in_order() -> None:
    engine = Engine(slots=9)
    said = plan(engine, Found(0), Found(1, priority=5), Found(2), Found(3, priority=5.5))
    assert said == [Start(3), Start(1), Start(0), Start(2)]


def test_complete_dependency_found_late_frees_its_dependents() -> None:
    engine = Engine(slots=1)
    assert plan(engine, Found(0, dependencies=(1,)), Found(1, "complete")) == [Start(0)]


def test_dependency_named_twice_counts_and_is_satisfied_twice() -> None:
    engine = Engine(slots=1)
    assert plan(engine, Found(0, dependencies=(1, 1)), Found(1)) == [Start(1)]
    assert engine.handle(Published(1), 0.0) == [Start(0)]


def test_found_twice_is_our_bug() -> None:
    engine = Engine(slots=1)
    engine.handle(Found(0, "complete"), 0.0)
    with pytest.raises(BugError, match="found twice"):
        engine.handle(Found(0), 0.0)


def test_failure_travels_down_once_and_keeps_its_cause() -> None:
    engine = Engine(slots=1)
    plan(engine, Found(0, dependencies=(1,)), Found(1, dependencies=(2,)), Found(2))
    assert engine.handle(Failed(2), 0.0) == [GiveUp(1, because=2), GiveUp(0, because=2)]
    assert [engine.blame(task) for task in range(3)] == [BLAME_FAILED, BLAME_FAILED, 0]
    assert engine.because(0) == 2
    assert engine.is_over


def test_several_reasons_are_all_kept() -> None:
    engine = Engine(slots=1)
    plan(
        engine,
        Found(0, dependencies=(1, 4)),
        Found(1, dependencies=(2, 3)),
        Found(2, "missing"),
        Found(3, "broken"),
        Found(4, needs=(("gpu", 2),)),
    )
    assert engine.state(4) is State.DENIED
    assert engine.blame(1) == BLAME_MISSING | BLAME_SCHEDULING | BLAME_SCHEDULING_DIRECT
    assert engine.blame(0) == BLAME_MISSING | BLAME_SCHEDULING | BLAME_DENIED


def test_task_found_below_a_stuck_one_is_stuck_at_once() -> None:
    engine = Engine(slots=1)
    plan(engine, Found(1, dependencies=(0,)), Found(0, "missing"))
    assert engine.handle(Found(2, dependencies=(1,)), 0.0) == [GiveUp(2, because=1)]
    assert engine.blame(2) == BLAME_MISSING


def test_retry_waits_its_time_and_then_fails_for_good() -> None:
    engine = Engine(slots=1, backoff=Backoff(10))
    plan(engine, Found(0, attempts=2))
    assert engine.handle(Failed(0), 100.0) == []
    assert engine.next_due_s == 110.0
    assert not engine.is_over
    assert engine.handle(Tick(), 109.9) == []
    assert engine.handle(Tick(), 110.0) == [Start(0)]
    engine.handle(Failed(0), 111.0)
    assert engine.state(0) is State.FAILED


def test_waits_of_a_task_grow_with_its_failures_and_not_with_conflicts() -> None:
    engine = Engine(slots=2, backoff=Backoff(10, 2, 35))
    plan(engine, Found(0, attempts=9), Found(1, attempts=9, backoff=Backoff(1)))
    waits = []
    for again in (True, False, False, False):
        engine.handle(Failed(0, again=again), 100.0)
        engine.handle(Failed(1), 100.0)
        assert engine.next_due_s == 101.0
        assert engine.handle(Tick(), 101.0) == [Start(1)]
        waits.append((engine.next_due_s or 0) - 100.0)
        assert engine.handle(Tick(), 200.0) == [Start(0)]
    assert waits == [10, 10, 20, 35]


def test_retry_without_delay_starts_in_the_same_answer() -> None:
    engine = Engine(slots=1)
    plan(engine, Found(0, attempts=2))
    assert engine.handle(Failed(0), 5.0) == [Start(0)]


def test_conflict_gives_one_more_try_than_allowed() -> None:
    engine = Engine(slots=1)
    plan(engine, Found(0))
    engine.handle(Ran(0), 0.0)
    assert engine.handle(Failed(0, again=True), 0.0) == [Start(0)]
    engine.handle(Ran(0), 0.0)
    engine.handle(Failed(0), 0.0)
    assert engine.state(0) is State.FAILED


def test_lease_elsewhere_delays_and_completion_there_frees_dependents() -> None:
    engine = Engine(slots=1)
    plan(engine, Found(0, dependencies=(1,)), Found(1))
    assert engine.handle(Elsewhere(1, until_s=3.0), 1.0) == []
    assert engine.handle(Tick(), 3.0) == [Start(1)]
    assert engine.handle(There(1), 3.0) == [Start(0)]
    assert engine.state(1) is State.COMPLETE


def test_yielded_dependencies_run_before_the_task_runs_again() -> None:
    engine = Engine(slots=1)
    plan(engine, Found(0))
    engine.handle(Found(1), 0.0)
    assert engine.handle(Yielded(0, (1,)), 0.0) == [Start(1)]
    assert engine.handle(Published(1), 0.0) == [Start(0)]


def test_yielded_done_dependencies_run_the_task_again_at_once() -> None:
    engine = Engine(slots=1)
    plan(engine, Found(0), Found(1, "complete"))
    assert engine.handle(Yielded(0, (1,)), 0.0) == [Start(0)]


def test_yielded_dependency_that_failed_gives_the_task_up() -> None:
    engine = Engine(slots=1)
    plan(engine, Found(0), Found(1, "missing"))
    assert engine.handle(Yielded(0, (1,)), 0.0) == [GiveUp(0, because=1)]
    assert engine.state(0) is State.STUCK


def test_ring_made_while_running_is_over_and_can_be_broken() -> None:
    engine = Engine(slots=2)
    plan(engine, Found(0), Found(1))
    engine.handle(Yielded(0, (1,)), 0.0)
    engine.handle(Yielded(1, (0,)), 0.0)
    assert engine.is_over
    assert engine.stalled() == [0, 1]
    assert engine.handle(Entangled(0), 0.0) == [GiveUp(1, because=0)]
    assert (engine.state(0), engine.state(1)) == (State.UNSCHEDULED, State.STUCK)


def test_stop_starts_nothing_more_and_is_over_when_the_running_ended() -> None:
    engine = Engine(slots=1)
    plan(engine, Found(0, attempts=3), Found(1))
    assert engine.handle(Stop(), 0.0) == []
    assert not engine.is_over
    assert engine.handle(Cancelled(0), 0.0) == []
    assert engine.is_over
    assert (engine.state(0), engine.state(1)) == (State.STOPPED, State.READY)


def test_failure_after_stop_is_not_retried() -> None:
    engine = Engine(slots=1)
    plan(engine, Found(0, attempts=3))
    engine.handle(Stop(), 0.0)
    engine.handle(Failed(0), 0.0)
    assert engine.state(0) is State.FAILED


def test_resource_of_one_is_handed_on_in_order() -> None:
    engine = Engine(slots=9)
    assert plan(engine, *(Found(task, needs=(("db", 1),)) for task in range(3))) == [Start(0)]
    assert engine.handle(Ran(0), 0.0) == []
    assert engine.handle(Published(0), 0.0) == [Start(1)]
    assert engine.handle(Failed(1), 0.0) == [Start(2)]


def test_big_need_is_not_starved_by_small_ones() -> None:
    engine = Engine(slots=9, capacities={"ram": 4})
    said = plan(engine, Found(0, needs=(("ram", 3),)), Found(1, needs=(("ram", 4),)), Found(2, needs=(("ram", 1),)))
    assert said == [Start(0)]
    assert engine.handle(Published(0), 0.0) == [Start(1)]
    assert engine.handle(Published(1), 0.0) == [Start(2)]


def test_task_that_waits_for_two_resources_leaves_the_free_one_to_others() -> None:
    engine = Engine(slots=9)
    plan(
        engine,
        Found(0, needs=(("a", 1),)),
        Found(1, needs=(("b", 1),)),
        Found(2, needs=(("a", 1), ("b", 1))),
        Found(3, needs=(("a", 1),)),
    )
    assert engine.handle(Published(0), 0.0) == [Start(3)]
    assert engine.handle(Published(1), 0.0) == []
    assert engine.handle(Published(3), 0.0) == [Start(2)]


def test_upcoming_tells_the_order_and_changes_nothing() -> None:
    engine = Engine(slots=1)
    plan(engine, *(Found(task, priority=task % 2) for task in range(6)))
    assert engine.upcoming(3) == [3, 5, 0]
    assert engine.handle(Published(1), 0.0) == [Start(3)]


def grouped(task: int, *dependencies: int, most: int = 99, group: int = 0, **more: Any) -> Found:
    return Found(task, dependencies=dependencies, group=group, most=most, **more)


def test_ready_tasks_of_a_group_start_as_one_and_take_one_slot() -> None:
    engine = Engine(slots=2)
    tasks = [grouped(0), Found(1), grouped(2), grouped(3, 1), grouped(4, group=7), grouped(5)]
    assert plan(engine, *tasks) == [Start(0, (2, 5)), Start(1)]
    assert [engine.state(task).name for task in (0, 2, 3, 5)] == ["RUNNING", "JOINED", "WAITING", "JOINED"]
    assert engine.handle(Published(1), 0.0) == [Start(3)]
    for task in (0, 2):
        engine.handle(Published(task), 0.0)
    assert (engine.state(2), engine.state(4)) == (State.DONE, State.RUNNING)
    engine.handle(Published(3), 0.0)
    engine.handle(Published(4), 0.0)
    assert not engine.is_over
    engine.handle(Published(5), 0.0)
    assert engine.is_over


def test_no_more_of_a_group_start_as_one_than_may_and_the_important_go_first() -> None:
    engine = Engine(slots=2)
    assert plan(engine, *(grouped(task, most=2, priority=task) for task in range(5))) == [
        Start(4, (3,)),
        Start(2, (1,)),
    ]
    assert engine.upcoming(9) == [0]


def test_members_of_a_batch_take_no_resources_and_give_none_back() -> None:
    engine = Engine(slots=9)
    gpu = (("gpu", 1),)
    assert plan(engine, *(grouped(task, needs=gpu) for task in range(2)), Found(2, needs=gpu)) == [Start(0, (1,))]
    assert engine.handle(Published(1), 0.0) == []
    assert engine.handle(Published(0), 0.0) == [Start(2)]


def test_members_that_failed_are_tried_again_as_one() -> None:
    engine = Engine(slots=1, backoff=Backoff(10))
    plan(engine, grouped(0, attempts=2), grouped(1, attempts=2), grouped(2))
    assert [engine.handle(Failed(task), 0.0) for task in range(3)] == [[], [], []]
    assert engine.state(2) is State.FAILED
    assert engine.handle(Tick(), 10.0) == [Start(0, (1,))]


def test_events_of_one_moment_are_all_heard_before_anything_starts() -> None:
    engine = Engine(slots=2)
    plan(engine, grouped(0, attempts=2), grouped(1, attempts=2))
    assert engine.handle_all((Failed(0), Failed(1)), 0.0) == [Start(0, (1,))]


def test_member_put_off_has_its_turn_again() -> None:
    engine = Engine(slots=1)
    assert plan(engine, grouped(0), grouped(1), grouped(2)) == [Start(0, (1, 2))]
    assert engine.handle(There(1), 0.0) == []
    assert engine.handle(Elsewhere(2, 0.0), 0.0) == []
    assert engine.handle(Elsewhere(0, 5.0), 0.0) == []
    assert engine.handle(Tick(), 0.0) == [Start(2)]
    assert engine.handle(Cancelled(2), 0.0) == []
