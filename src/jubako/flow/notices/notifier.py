"""Watches a run for hooks: tells of failed tasks as they fail, where that is asked for, and how the whole has ended.

Nothing here changes what a run comes to. What could not be delivered is said once, with the hook's name. A run is held
up by the slowest hook's time at most, and no longer than somebody has the patience: Ctrl-C goes on without them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from jubako.flow.clock import Clock
from jubako.flow.interrupts import Interrupts
from jubako.flow.notices.concealed import Concealed
from jubako.flow.notices.delivery import Delivery, wait_for_deliveries
from jubako.flow.notices.digest import describe_break, describe_result, describe_task
from jubako.flow.notices.hooks import Hook
from jubako.flow.notices.message import Message
from jubako.flow.notices.order import make_order, prepare
from jubako.flow.observer import Note, RunEvent, RunStarted, TaskFailed, TaskFound, TaskStarted
from jubako.records import record, replace

if TYPE_CHECKING:
    from jubako.flow.result import RunResult

__all__ = ["Delivered", "Notifier", "name_hook"]


@record
class Delivered:
    """What became of one message. `problem` is "" if it arrived."""

    hook: Hook
    problem: str
    wall_s: float


class Notifier:
    """Tells `hooks` of a run; `about` is what is known of it beforehand. InputError if a hook lacks its secret."""

    def __init__(
        self,
        hooks: Sequence[Hook],
        about: Message,
        *,
        clock: Clock,
        environ: Mapping[str, str],
        make_id: Callable[[], str],
    ) -> None:
        self._hooks = [prepare(name_hook(hook, number), environ) for number, hook in enumerate(hooks, start=1)]
        self._about = about
        self._clock = clock
        self._environ = environ
        self._make_id = make_id
        self._concealed = Concealed()
        self._told = [0] * len(self._hooks)  # tasks that each hook was told of
        self._sent: list[tuple[Hook, Delivery | str, float]] = []  # or why it could not be started

    def see(self, event: RunEvent) -> None:
        if isinstance(event, (TaskFound, TaskStarted)):
            self._concealed.learn(event.task)
        elif isinstance(event, RunStarted):
            self._about = replace(self._about, run_id=event.run_id)
        elif isinstance(event, TaskFailed) and not event.again:
            self._tell_of_task(event)

    def finish(self, result: RunResult | None, error: BaseException | None, interrupts: Interrupts) -> list[Note]:
        """Sends what is to be sent of a run that is over, and says what could not be delivered."""
        about = replace(self._about, ended_s=self._clock.wall_s())
        clean = self._concealed.clean
        if result is not None:
            message = describe_result(about, result, clean)
        else:
            message = describe_break(about, error or KeyboardInterrupt(), clean)
        for hook in self._hooks:
            if message.outcome in hook.on:
                self._send(hook, message)
        problems: dict[tuple[str, str], Hook] = {}
        for delivered in self._wait(interrupts):
            if delivered.problem:
                problems.setdefault((delivered.hook.name, delivered.problem), delivered.hook)
        return [_complain(hook, problem, clean) for (_, problem), hook in problems.items()]

    def try_out(self, interrupts: Interrupts) -> list[Delivered]:
        """Sends a trial message by every hook, whatever it is for."""
        for hook in self._hooks:
            self._send(hook, self._about)
        return self._wait(interrupts)

    def _tell_of_task(self, event: TaskFailed) -> None:
        now_s = self._clock.monotonic_s()
        for _, delivery, _ in self._sent:  # one that prints too much would wait for somebody to read it
            if isinstance(delivery, Delivery):
                delivery.look(now_s)
        for number, hook in enumerate(self._hooks):
            if self._told[number] < hook.each_failed_task and "failure" in hook.on:
                self._told[number] += 1
                about = replace(self._about, ended_s=self._clock.wall_s())
                self._send(hook, describe_task(about, event, self._concealed.clean))

    def _send(self, hook: Hook, message: Message) -> None:
        began_s = self._clock.monotonic_s()
        order = make_order(hook, message, self._make_id(), self._environ)
        try:
            delivery: Delivery | str = Delivery(order, began_s)
        except OSError as error:
            delivery = f"it cannot be started: {error.strerror or error}"
        self._sent.append((hook, delivery, began_s))

    def _wait(self, interrupts: Interrupts) -> list[Delivered]:
        """Waits until all is delivered or given up; what became of each, in the order of the hooks."""
        sent, self._sent = self._sent, []
        ended: dict[int, Delivered] = {}
        while len(ended) < len(sent):
            now_s = self._clock.monotonic_s()
            for number, (hook, delivery, began_s) in enumerate(sent):
                if number in ended:
                    continue
                problem = _look(delivery, now_s, is_cut_short=interrupts.count > 0)
                if problem is not None:
                    ended[number] = Delivered(hook, problem, now_s - began_s)
            living = [each for number, (_, each, _) in enumerate(sent) if number not in ended]
            if living:
                wait_for_deliveries([each for each in living if isinstance(each, Delivery)], now_s, interrupts)
                interrupts.drain()
        order = {hook.name: number for number, hook in enumerate(self._hooks)}
        return sorted(ended.values(), key=lambda each: order[each.hook.name])


def _look(delivery: Delivery | str, now_s: float, *, is_cut_short: bool) -> str | None:
    """What went wrong with a delivery that is over, "" if nothing did; None while it is not over."""
    if isinstance(delivery, str):
        return delivery
    delivery.look(now_s)
    if is_cut_short:
        delivery.cut_short("it was not over when a signal (Ctrl-C) came, and was killed")
    return delivery.problem if delivery.is_over else None


def name_hook(hook: Hook, number: int) -> Hook:
    """The hook with a name: its own, or one made of what it is."""
    return hook if hook.name else replace(hook, name=f"{type(hook).__name__.removesuffix('Hook').lower()}-{number}")


def _complain(hook: Hook, problem: str, clean: Callable[[str], str]) -> Note:
    return Note(
        clean(f"hook {hook.name} ({hook.target}) was not delivered: {problem}"),
        "'jubako notify test PIPELINE' sends a trial message by every hook",
    )
