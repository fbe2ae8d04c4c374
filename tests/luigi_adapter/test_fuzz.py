"""Random pipelines, parameter values, settings, ranges and command lines, through Luigi and through jubako.

Each case is made from a number, which a failure names. A small sample runs with the other tests, a long one in `soak`.

Exempt, by name, where a case can meet it; each is in the guide with its reason:
  disabled          a disabled task that is complete all the same: no such case is made
  resumed generators  events of tasks that ask for others: they go on where they were
  rescheduling      events of pipelines in which a task ends without its output and another one requires it
  last day          9999-12-31, of which Luigi looks for the next one while it makes the summary: not among the values
  unknown errors    what Luigi lets out as an exception is a sentence here, with the same meaning: nothing was run
"""

from __future__ import annotations

import datetime
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SAMPLE = 250  # ten seconds
LONG = int(os.environ.get("JUBAKO_FUZZ", "60000"))

HEAD = """
import datetime, enum, os
import luigi
from luigi.util import inherits, requires

class Color(enum.Enum):
    red = 1
    green = 2
"""

# How a task's run() ends, and how often.
ENDINGS = {
    "fine": ("with self.output().open('w') as file: file.write(str(self))", 10),
    "raises": ("raise ValueError(str(self))", 2),
    "nothing": ("pass", 1),
    "exits": ("raise SystemExit(2)", 1),
    "half": ("with self.output().open('w') as file: file.write('x'); raise ValueError('torn')", 1),
}

VALUES = [
    "", "a b", "5", " 5 ", "5_0", "-3", "1e3", "nan", "true", "False", "1", "2014-1-5", "2014-01-05", "2014-01",
    "2014", "2014-01-05T03", "2014-01-05T0307", "2014-01-05T030709", "2014-W01", "2014-W53", "2014-01-01-2014-02-01",
    "[1, 2]", "[1, [2, {\"a\": 3}]]", "((1, 2), (3,))", "{\"b\": 1, \"a\": [1]}", "{", "null", "red",
    "red,green", "blue", "x,y", "x", "3 days", "2 days 1 week", "P1DT2H", "90", "PT", "1 w 2 d", "Node0", "é\u4e2d",
    "/tmp/../x", "0.5", "2.0", "None",
]  # fmt: skip

KINDS = [
    "Parameter()", "StrParameter()", "IntParameter()", "FloatParameter()", "BoolParameter()",
    "BoolParameter(default=True, parsing=luigi.BoolParameter.EXPLICIT_PARSING)", "DateParameter()",
    "DateParameter(interval=7)", "MonthParameter()", "YearParameter()", "DateHourParameter()",
    "DateHourParameter(interval=5)", "DateMinuteParameter()", "DateSecondParameter()", "DateIntervalParameter()",
    "TimeDeltaParameter()", "EnumParameter(enum=Color)", "EnumListParameter(enum=Color)", "DictParameter()",
    "ListParameter()", "TupleParameter()", "ChoiceParameter(choices=['x', 'y'])",
    "ChoiceParameter(choices=[1, 5], var_type=int)", "ChoiceListParameter(choices=['x', 'y'])",
    "NumericalParameter(var_type=int, min_value=-3, max_value=6)", "PathParameter()",
    "PathParameter(absolute=True)", "OptionalParameter()", "OptionalIntParameter()", "OptionalFloatParameter()",
    "OptionalBoolParameter()", "OptionalListParameter()", "OptionalDictParameter()", "OptionalTupleParameter()",
    "OptionalChoiceParameter(choices=['x', 'y'])", "OptionalPathParameter()",
    "IntParameter(default=7, significant=False)", "Parameter(default='d', positional=False)",
]  # fmt: skip


def make_pipeline(chance: random.Random) -> dict[str, Any]:
    """Tasks that require each other, some of which fail, are missing or cannot be asked."""
    count = chance.randint(1, 9)
    lines = [HEAD]
    present = {}
    exempt = []
    wants = "".join(
        f"            {n}: {sorted(chance.sample(range(n), chance.randint(0, min(n, 3))))},\n" for n in range(count)
    )
    for number in range(count):
        kind = chance.choice(["Task"] * 6 + ["ExternalTask", "WrapperTask"])
        ending = chance.choices(list(ENDINGS), [weight for _, weight in ENDINGS.values()])[0]
        name = f"Node{number}"
        lines.append(f"class {name}(luigi.{kind}):")
        lines.append("    date = luigi.DateParameter(default=datetime.date(2024, 2, 28))")
        lines.append(f"    n = luigi.IntParameter(default={number})")
        disabled = kind != "WrapperTask" and chance.random() < 0.1
        if disabled:
            lines.append("    disabled = True")
        if chance.random() < 0.2:
            lines.append(f"    priority = {chance.randint(-2, 2)}")
        if chance.random() < 0.2:
            lines.append("    resources = {'gold': 1}")
        lines.append("    def requires(self):")
        if chance.random() < 0.05:
            lines.append("        raise ValueError('requires')")
        lines.append("        return [self.make(other, day) for other in WANTS[self.n] for day in range(DAYS[other])]")
        lines.append("    def make(self, other, day):")
        lines.append("        date = self.date + datetime.timedelta(days=day)")
        lines.append("        return globals()[f'Node{other}'](date=min(date, datetime.date(2024, 3, 6)))")
        if chance.random() < 0.05:
            lines.append("    def complete(self): raise ValueError('complete')")
        if kind != "WrapperTask" or chance.random() < 0.1:
            lines.append(f"    def output(self): return luigi.LocalTarget(f'out/{number}/{{self.date}}')")
            if not disabled and (chance.random() < 0.3 or (kind == "ExternalTask" and chance.random() < 0.6)):
                present |= {f"out/{number}/2024-02-{day}": "before" for day in (28, 29) if chance.random() < 0.8}
        elif ending == "half":
            ending = "nothing"
        if kind == "Task":
            lines += ["    def run(self):", f"        {ENDINGS[ending][0]}"]
            if ending == "nothing":
                exempt.append("events")
        lines.append("")
    lines.append(f"WANTS = {{\n{wants}}}")
    lines.append(f"DAYS = {[chance.choice([1, 1, 2, 5]) for _ in range(count)]}")
    arguments = [f"Node{count - 1}"]
    for code in ("task-failed", "missing-data", "scheduling-error", "not-run"):
        if chance.random() < 0.5:
            arguments += [f"--retcode-{code}", str(chance.randint(0, 40))]
    if chance.random() < 0.1:
        arguments += ["--worker-check-complete-on-run"]
    if chance.random() < 0.1:
        arguments += ["--workers", "2"]
    settings = f"[execution_summary]\nsummary_length = {chance.choice([0, 1, 2, 5])}\n[resources]\ngold = 2\n"
    files = {"luigi.cfg": settings, **present}
    return {"source": "\n".join(lines), "files": files, "lines": [arguments] * chance.randint(1, 2), "exempt": exempt}


def make_asking(chance: random.Random) -> dict[str, Any]:
    """Tasks that ask for others while they run, one after another or many at once, and those for others again."""
    count = chance.randint(2, 8)
    lines = [HEAD, "class Asks(luigi.Task):", "    n = luigi.IntParameter()"]
    lines += [
        "    def requires(self): return [Asks(n) for n in NEEDS[self.n]]",
        "    def output(self): return luigi.LocalTarget(f'asked/{self.n}')",
        "    def run(self):",
        "        got = []",
        "        for group in WANTS[self.n]:",
        "            found = yield [Asks(n) for n in group] if len(group) != 1 else Asks(group[0])",
        "            for target in luigi.task.flatten(found):",
        "                with target.open() as file: got.append(file.read())",
        "        with self.output().open('w') as file: file.write(f\"{self.n}({','.join(got)})\")",
    ]
    wants, needs = {}, {}
    for number in range(count):
        below = range(number)
        wants[number] = [chance.sample(below, chance.randint(0, min(3, number))) for _ in range(chance.randint(0, 3))]
        needs[number] = chance.sample(below, chance.randint(0, min(2, number)))
    lines += [f"WANTS = {wants}", f"NEEDS = {needs}"]
    files = {f"asked/{n}": f"{n} before" for n in range(count) if chance.random() < 0.2}
    arguments = ["Asks", "--n", str(count - 1)]
    return {"source": "\n".join(lines), "files": files, "lines": [arguments] * 2, "exempt": ["events"]}


def make_values(chance: random.Random) -> dict[str, Any]:
    """One task with parameters of all kinds, given on the line, by settings, both or not at all."""
    kinds = chance.sample(KINDS, chance.randint(1, 4))
    lines = [HEAD, "class Values(luigi.Task):"]
    lines += [f"    p_{number} = luigi.{kind}" for number, kind in enumerate(kinds)]
    lines += [
        "    def output(self): return luigi.LocalTarget('values')",
        "    def run(self):",
        "        with self.output().open('w') as file:",
        "            for name, parameter in self.get_params():",
        "                value = getattr(self, name)",
        "                file.write(f'{name} {value!r} {parameter.serialize(value)} '.replace(os.getcwd(), '.'))",
        "            file.write(self.task_id if os.getcwd() not in str(self) else '')",
        "class Node0(luigi.Task): pass",
    ]
    arguments, settings = ["Values"], []
    for number, kind in enumerate(kinds):
        flag = chance.choice([f"--p-{number}", f"--Values-p-{number}"])
        if chance.random() < 0.7:
            text = chance.choice(VALUES)
            is_flag = kind in ("BoolParameter()", "OptionalBoolParameter()")
            arguments += [flag] if is_flag else [f"{flag}={text}"]
        if chance.random() < 0.3:
            settings.append(f"p_{number} = {chance.choice(VALUES)}")
    files = {"luigi.cfg": "\n".join(["[Values]", *settings, ""])}
    return {"source": "\n".join(lines), "files": files, "lines": [arguments], "exempt": []}


def make_range(chance: random.Random) -> dict[str, Any]:
    """A range of one kind at a random time, over files of which some are there."""
    kind, parameter, form, step = chance.choice(
        [
            ("RangeDaily", "DateParameter", "%Y-%m-%d", 86400),
            ("RangeHourly", "DateHourParameter", "%Y-%m-%dT%H", 3600),
            ("RangeByMinutes", "DateMinuteParameter", "%Y-%m-%dT%H%M", 60),
            ("RangeMonthly", "MonthParameter", "%Y-%m", 86400 * 31),
            ("RangeDailyBase", "DateParameter", "%Y-%m-%d", 86400),
        ]
    )
    lines = [
        HEAD,
        "class Dated(luigi.Task):",
        f"    point = luigi.{parameter}()",
        "    word = luigi.Parameter(default='w')",
        f"    def output(self): return luigi.LocalTarget(f'dated/{{self.word}}-{{self.point:{form}}}')",
        "    def run(self):",
        "        with self.output().open('w') as file: file.write('x')",
    ]
    now = chance.randint(1_600_000_000, 1_700_000_000)

    def point(steps: int) -> str:
        return datetime.datetime.fromtimestamp(now + steps * step, datetime.UTC).strftime(form)

    first = chance.randint(-30, 3)
    arguments = [kind, "--of", "Dated", "--now", str(now)]
    if chance.random() < 0.85:
        arguments += ["--start", point(first)]
    if chance.random() < 0.5:
        arguments += ["--stop", point(first + chance.randint(-1, 30))]
    if chance.random() < 0.3:
        arguments += ["--reverse"]
    if chance.random() < 0.4:
        arguments += ["--task-limit", str(chance.choice([0, 1, 3, 100]))]
    unit = {"RangeHourly": "hours", "RangeByMinutes": "minutes", "RangeMonthly": "months"}.get(kind, "days")
    if chance.random() < 0.4:
        arguments += [f"--{unit}-back", str(chance.choice([1, 5, 40]))]
    if chance.random() < 0.3:
        arguments += [f"--{unit}-forward", str(chance.choice([1, 5]))]
    if kind == "RangeByMinutes":
        arguments += ["--minutes-interval", str(chance.choice([1, 5, 7, 30, 60]))]
    if chance.random() < 0.2:
        arguments += ["--of-params", json.dumps({"word": "other"})]
    files = {f"dated/w-{point(n)}": "before" for n in range(-30, 5) if chance.random() < 0.3}
    return {"source": "\n".join(lines), "files": files, "lines": [arguments] * 2, "exempt": []}


def make_case(number: int) -> dict[str, Any]:
    chance = random.Random(number)
    made = chance.choice([make_pipeline, make_pipeline, make_values, make_range, make_asking])(chance)
    module = f"fuzzed_{number}"
    made["steps"] = [{"arguments": ["--module", module, *line]} for line in made["lines"]]
    made["files"] = {f"{module}.py": made["source"], **made["files"]}
    return made


def normalised(code: Any) -> Any:
    """Texts are how Luigi and jubako say that nothing was run; the words may differ."""
    return "refused" if isinstance(code, str) else code


def compare(run_both: Callable[..., Any], numbers: range) -> None:
    cases = {str(number): make_case(number) for number in numbers}
    answers = run_both(cases)
    wrong = []
    imported = sum(any(step["events"] or step["summaries"] for step in steps) for steps in answers["theirs"].values())
    assert imported > len(cases) // 2  # most cases are about running something
    for number, case in cases.items():
        for theirs, ours in zip(answers["theirs"][number], answers["ours"][number], strict=True):
            theirs["code"], ours["code"] = normalised(theirs["code"]), normalised(ours["code"])
            for what in ("code", "summaries", "files", "events"):
                if what not in case["exempt"] and ours[what] != theirs[what]:
                    wrong.append((number, case["lines"][0], what, theirs[what], ours[what]))
    assert not wrong, "\n\n".join(
        f"case {n}: {line}\n{what}\ntheirs {a}\nours   {b}" for n, line, what, a, b in wrong[:5]
    )


@pytest.mark.parametrize("name", ["disabled", "rescheduling", "resumed generators", "last day", "unknown errors"])
def test_guide_names_the_exemption(name: str) -> None:
    assert f"| {name} |" in (Path(__file__).parents[2] / "docs" / "luigi.md").read_text()


def test_random_cases_come_to_the_same(run_both: Callable[..., Any]) -> None:
    compare(run_both, range(SAMPLE))


@pytest.mark.soak
def test_many_random_cases_come_to_the_same(run_both: Callable[..., Any]) -> None:
    for start in range(SAMPLE, LONG, 200):
        compare(run_both, range(start, start + 200))
