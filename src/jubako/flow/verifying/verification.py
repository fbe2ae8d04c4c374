"""What verifying tasks comes to, and which tasks can be verified at all. Nothing here runs anything.

verdict    reason
same       (how: the same bytes, or the same contents written in another way)
within     (numbers are apart, by no more than they may be)
different  (the first difference)
cannot     external, nothing_to_run, in_memory, broken, not_done, no_outputs, not_a_file, input_missing,
           needs_more, failed (the task, when it was run again), changed (meanwhile), incomparable
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from jubako.errors import InputError
from jubako.flow.graph.graph import is_external
from jubako.flow.graph.standing import Broken, Standing
from jubako.flow.targets.outputs import find_targets, lives_in_memory
from jubako.flow.tasks.nesting import flatten
from jubako.flow.tasks.task import Task
from jubako.records import record, replace
from jubako.verify.compare import Rules
from jubako.verify.findings import Comparison, Verdict
from jubako.verify.tolerance import Tolerance

__all__ = ["VERDICTS", "OutputVerdict", "TaskVerdict", "Verification", "draw_sample", "find_rules", "refuse"]

VERDICTS: Final[tuple[Verdict, ...]] = ("same", "within", "different", "cannot")
_MEANT: Final = {"within": "within tolerance", "cannot": "cannot be compared"}

T = TypeVar("T")


@record
class OutputVerdict:
    """One declared output, and how it compares. `path` is a path, or what another target calls itself."""

    path: str
    comparison: Comparison
    kept: str = ""  # where what was recomputed is kept for a look


@record
class TaskVerdict:
    """One task. `reason` and `sentence` say why it cannot be compared; else the outputs say it all."""

    task: Any
    verdict: Verdict
    outputs: Sequence[OutputVerdict] = ()
    reason: str = ""
    sentence: str = ""
    traceback: str = ""
    log_path: str = ""
    wall_s: float = 0.0
    changes: Sequence[str] = ()  # what is not as it was when what is published was made, where the task tracks that

    def describe(self) -> str:
        """What the verdict rests on, in a sentence without an end: that of the output that decided it."""
        if self.sentence:
            return self.sentence
        deciding = [each for each in self.outputs if each.comparison.verdict == self.verdict]
        told = [f"{each.path}: {text}" for each in deciding if (text := each.comparison.describe())]
        return told[0] if told else ""


@record
class Verification:
    """What a verification came to. True if everything that was asked for agrees with what is published."""

    run_id: str
    verdicts: Sequence[TaskVerdict]  # in the order of the tasks
    notes: Sequence[tuple[str, str]] = ()
    recovered: Sequence[str] = ()
    not_verified: int = 0  # it was interrupted before
    is_interrupted: bool = False
    wall_s: float = 0.0

    def __bool__(self) -> bool:
        return not self.is_interrupted and all(each.verdict in ("same", "within") for each in self.verdicts)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many tasks have each verdict."""
        counted = Counter(each.verdict for each in self.verdicts)
        return {verdict: counted[verdict] for verdict in VERDICTS}

    def describe(self) -> str:
        """ "18 verified = 17 same + 1 different"."""
        parts = [f"{count} {_MEANT.get(verdict, verdict)}" for verdict, count in self.counts.items() if count]
        text = f"{len(self.verdicts)} verified{' = ' if parts else ''}{' + '.join(parts)}"
        return text + (f", {self.not_verified} not" if self.not_verified else "")


def draw_sample(values: Sequence[T], size: str, seed: int) -> list[T]:
    """Some of `values`, in their order, the same for a seed: `size` is a number ("12") or a share ("5%")."""
    text = size.removesuffix("%")
    try:
        amount = float(text) if size.endswith("%") else int(text)
    except ValueError:
        amount = -1
    if not 0 < amount < float("inf") or (size.endswith("%") and amount > 100):
        raise InputError(f"a sample of {size!r} is neither a number from 1, as in 12, nor a share, as in 5%")
    count = -(-len(values) * amount // 100) if size.endswith("%") else amount
    chosen = random.Random(seed).sample(range(len(values)), min(int(count), len(values)))
    return [values[index] for index in sorted(chosen)]


def find_rules(task: Any, tolerance: Tolerance | None, ignore: Sequence[str]) -> Rules:
    """How the outputs of `task` are compared: as it says itself, but for `tolerance`, and leaving out `ignore` too."""
    rules = task.verification
    if rules is None:
        rules = Rules()
    elif not isinstance(rules, Rules):
        raise InputError(
            f"{task}: verification is {rules!r}, which says nothing about comparing",
            hint="it is to be a jubako.verify.Rules",
        )
    return replace(
        rules,
        tolerance=rules.tolerance if tolerance is None else tolerance,
        ignore=(*rules.ignore, *ignore),
    )


def refuse(task: Any, standing: Standing) -> TaskVerdict | None:
    """Why `task` cannot be verified, as far as can be seen without running it; None if it can be tried."""
    found = _find_refusal(task, standing)
    return None if found is None else TaskVerdict(task, "cannot", reason=found[0], sentence=found[1])


def _find_refusal(task: Any, standing: Standing) -> tuple[str, str] | None:
    if is_external(task):
        return "external", "no task makes it"
    if type(task).run is Task.run:
        return "nothing_to_run", "it has no run() of its own; verify what it requires"
    (answer,) = standing.look([task])
    if isinstance(answer, Broken):
        return "broken", answer.sentence
    try:
        targets = find_targets(task)
        if not targets:
            return "no_outputs", "it has no outputs that could be compared"
        if not answer:
            missing = next((target for target in targets if not target.exists()), None)
            return "not_done", f"it is not done{'' if missing is None else f': {missing} is not there'}"
        if lives_in_memory(targets):
            return "in_memory", "its outputs live in memory, so there is nothing published to compare with"
        if not any(hasattr(target, "as_output") for target in targets):
            return "not_a_file", f"{targets[0]} is no file of this machine"
    except Exception as error:  # noqa: BLE001  (the task's and its targets' own code)
        return "broken", f"output() raised {type(error).__name__}: {error}"
    return _find_missing_input(task, standing)


def _find_missing_input(task: Any, standing: Standing) -> tuple[str, str] | None:
    required = standing.requirements(task)
    if isinstance(required, Broken):
        return "broken", required.sentence
    for other, answer in zip(required, standing.look(required), strict=True):
        if isinstance(answer, Broken):
            return "input_missing", f"it needs {other}, which {answer.sentence}"
        if not answer:
            absent = [str(target) for target in flatten(other.output()) if not target.exists()]
            where = f": {absent[0]} is not there" if absent else ""
            return "input_missing", f"it needs {other}, which is not done{where}"
    return None
