"""Running a task here: the order of calls, what becomes of what it raises, generators put off and resumed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from jubako.flow.executors.performing import Performed, call_after_publish, perform
from jubako.flow.parameters import IntParameter
from jubako.flow.run_rules import RunRules
from jubako.flow.targets.mock import MockFileSystem, MockTarget
from jubako.flow.tasks.event import Event
from jubako.flow.tasks.task import Task


@pytest.fixture(autouse=True)
def empty_memory() -> Iterator[None]:
    MockFileSystem().clear()
    yield
    MockFileSystem().clear()


def never(task: Any) -> bool:
    return False


def run(task: Task, **options: Any) -> tuple[Performed, list[tuple[str, Any]]]:
    said: list[tuple[str, Any]] = []
    options = {"is_done": never, **options}
    return perform(task, say=lambda what, value: said.append((what, value)), **options), said


class Makes(Task):
    n = IntParameter(default=0)

    def output(self) -> Any:
        return MockTarget(f"made {self.n}")

    def run(self) -> Any:
        with self.output().open("w"):
            pass


def test_success_is_ok() -> None:
    assert run(Makes())[0] == Performed("ok")


def test_setters_work_while_running_and_not_after() -> None:
    class Says(Makes):
        def run(self) -> None:
            assert self.set_status_message and self.set_progress_percentage and self.set_tracking_url
            self.set_status_message("a")
            self.set_progress_percentage(1)
            self.set_tracking_url("b")
            super().run()

    task = Says()
    assert run(task)[1] == [("message", "a"), ("percentage", 1), ("tracking_url", "b")]
    assert (task.set_status_message, task.set_progress_percentage, task.set_tracking_url) == (None, None, None)


@pytest.mark.parametrize("error", [ValueError("v"), SystemExit(3), GeneratorExit()])
def test_whatever_run_raises_is_a_failure(error: BaseException) -> None:
    class Raises(Task):
        def run(self) -> None:
            raise error

    done, _ = run(Raises())
    assert (done.outcome, done.exception) == ("failed", error)
    assert "Raises" not in done.error and "in run" in done.traceback


def test_keyboard_interrupt_is_cancelled() -> None:
    class Interrupted(Task):
        def run(self) -> None:
            raise KeyboardInterrupt

    assert run(Interrupted())[0].outcome == "cancelled"


def test_on_failure_that_raises_adds_to_the_traceback() -> None:
    class Worse(Task):
        def run(self) -> None:
            raise ValueError("first")

        def on_failure(self, exception: BaseException) -> None:
            raise TypeError("second")

    done, _ = run(Worse())
    assert done.error == "ValueError: first"
    assert "TypeError: second" in done.traceback


def test_on_success_that_raises_is_a_failure_as_in_luigi() -> None:
    class Proud(Makes):
        def on_success(self) -> None:
            raise ValueError("too proud")

    seen: list[str] = []
    Proud.event_handler(Event.SUCCESS)(lambda task: seen.append("success"))
    assert run(Proud())[0].outcome == "failed"
    assert seen == []


def test_missing_outputs_are_named() -> None:
    class Lazy(Task):
        def output(self) -> Any:
            return [MockTarget("this"), MockTarget("that")]

        def run(self) -> None:
            pass

    assert run(Lazy())[0].error == "run() ended and did not make this, that"


def test_task_without_a_run_is_told_from_one_that_forgot_something() -> None:
    class Idle(Task):
        def output(self) -> Any:
            return MockTarget("never made")

    assert run(Idle())[0].error == "it has no run() that would make never made"


def test_output_that_is_no_target_is_named_even_where_complete_is_the_tasks_own() -> None:
    class Named(Task):
        def output(self) -> Any:
            return "a/b"

        def run(self) -> None:
            pass

        def complete(self) -> bool:
            return False

    assert run(Named())[0].error == "output() of Named() gives 'a/b', which is no target; LocalTarget('a/b') is one"


def test_own_complete_decides_where_outputs_are_missing() -> None:
    class Sure(Task):
        n = IntParameter()

        def output(self) -> Any:
            return MockTarget("elsewhere")

        def run(self) -> None:
            pass

        def complete(self) -> bool:
            return bool(self.n)

    assert run(Sure(1))[0].outcome == "ok"
    assert run(Sure(0))[0].error == "run() ended and did not make elsewhere"


def test_task_that_is_never_complete_may_still_succeed() -> None:
    class Always(Makes):
        def complete(self) -> bool:
            return False

    assert run(Always())[0].outcome == "ok"


class Needs(Task):
    def output(self) -> Any:
        return MockTarget("needs")

    def run(self) -> Any:
        (target,) = yield [Makes(1)]
        assert target.path == "made 1"
        target = yield Makes(2)
        assert target.path == "made 2"
        with self.output().open("w"):
            pass


def test_generator_is_put_off_and_goes_on_where_it_was() -> None:
    task = Needs()
    first, _ = run(task)
    assert first.suspended is not None
    assert (first.outcome, first.suspended.requirements.flat_requirements) == ("needs", [Makes(1)])
    Makes(1).run()
    second, _ = run(task, resumed=first.suspended)
    assert second.suspended is not None
    assert second.suspended.requirements.flat_requirements == [Makes(2)]
    Makes(2).run()
    assert run(task, resumed=second.suspended)[0].outcome == "ok"


def test_generator_goes_on_at_once_when_what_it_needs_is_done() -> None:
    Makes(1).run()
    assert run(Needs(), is_done=lambda task: task == Makes(2))[0].outcome == "ok"


def test_after_publish_is_called_and_its_error_kept() -> None:
    class Tells(Task):
        n = IntParameter()

        def after_publish(self) -> None:
            if self.n:
                raise ConnectionError("down")

    assert call_after_publish(Tells(0)) == Performed("ok")
    assert call_after_publish(Tells(1)).error == "ConnectionError: down"


class MakesNothing(Makes):
    def run(self) -> None:
        pass


class NeedsNothing(Makes):
    def requires(self) -> Any:
        return [MakesNothing(n=1), MakesNothing(n=2)]


def test_unmade_outputs_are_a_failure_or_named() -> None:
    assert run(MakesNothing())[0].error == "run() ended and did not make made 0"
    done, _ = run(MakesNothing(), rules=RunRules(unmade_outputs="name"))
    assert (done.outcome, done.unmade) == ("ok", ["made 0"])


def test_requirements_are_asked_before_start_where_the_rules_say_so() -> None:
    started: list[Any] = []
    NeedsNothing.event_handler(Event.START)(started.append)
    assert run(NeedsNothing())[0].outcome == "ok"
    done, _ = run(NeedsNothing(n=5), rules=RunRules(asks_requirements=True))
    ids = [f"{MakesNothing(n=n).task_id} (made {n})" for n in (1, 2)]
    assert done.error == f"RuntimeError: Unfulfilled dependencies at run time: {', '.join(ids)}"
    assert started == [NeedsNothing()]


def test_complete_is_asked_after_run_where_the_rules_say_so() -> None:
    assert run(Makes(), rules=RunRules(asks_complete=True))[0].outcome == "ok"
    done, _ = run(MakesNothing(n=9), rules=RunRules(asks_complete=True))
    assert done.error == "Task finished running, but complete() is still returning false."


def test_context_manager_is_around_the_whole_attempt() -> None:
    seen: list[Any] = []

    @contextmanager
    def around(task: Any) -> Iterator[None]:
        seen.append(task)
        yield
        seen.append(task.complete())

    assert run(Makes(), rules=RunRules(around=around))[0].outcome == "ok"
    assert seen == [Makes(), True]


def test_context_manager_that_raises_is_a_failure() -> None:
    @contextmanager
    def around(task: Any) -> Iterator[None]:
        raise OSError("no")
        yield

    done, _ = run(Makes(), rules=RunRules(around=around))
    assert (done.outcome, done.error) == ("failed", "OSError: no")
