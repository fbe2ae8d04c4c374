"""What a task conceals is in nothing that a run says, writes down or shows later, however the run ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.conftest import Said

SECRETS = {"password": "hunter2-a", "token": "hunter2-b", "pin": "48151623", "keys": '{"hunter2-c": "hunter2-d"}'}
SPELT = ("hunter2", "48151623")

PIPELINE = """
from jubako import ChoiceParameter, DateParameter, DictParameter, ExternalTask, IntParameter, LocalTarget
from jubako import Parameter, ParameterVisibility, RangeDailyBase, Task, WrapperTask

HIDDEN, PRIVATE = ParameterVisibility.HIDDEN, ParameterVisibility.PRIVATE


class Secretive:
    password = Parameter(visibility=HIDDEN)
    token = Parameter(visibility=PRIVATE)
    pin = IntParameter(visibility=HIDDEN)
    keys = DictParameter(visibility=PRIVATE)


class Works(Secretive, Task):
    date = DateParameter()

    def output(self):
        return LocalTarget(f"out/{self.date}")

    def run(self):
        assert self.password.startswith("hunter2") and "hunter2-c" in self.keys
        with self.output().open("w") as file:
            file.write("made")

    def after_publish(self):
        assert self.password.startswith("hunter2")
        if self.date.day % 2:
            raise RuntimeError("not told")


class Fails(Works):
    def output(self):
        return LocalTarget(f"failed/{self.date}")

    def run(self):
        raise RuntimeError("it broke")


class Forgets(Works):
    def output(self):
        return LocalTarget(f"forgotten/{self.date}")

    def run(self):
        pass


class Batched(Secretive, Task):
    n = IntParameter(batch_method=max)

    def output(self):
        return LocalTarget(f"batched-{self.n}")

    def run(self):
        raise RuntimeError("nobody makes it")


class Missing(Secretive, ExternalTask):
    def output(self):
        return LocalTarget("nowhere")


class Choosy(Task):
    choice = ChoiceParameter(choices=["a"], visibility=PRIVATE)
    number = IntParameter(visibility=PRIVATE)


class Unplanned(Secretive, Task):
    date = DateParameter()
    how = IntParameter()

    def requires(self):
        if self.how == 0:
            return Choosy(choice=self.password, number=1)
        if self.how == 1:
            return Works(self.date, self.password, nonsense=self.token)
        if self.how == 2:
            return Works(password=self.password, token=self.token)
        if self.how == 3:
            return Choosy.from_str_params({"choice": self.password, "number": "1"})
        return Missing(5, 6, 7, 8, 9)


class Asks(Works):
    def output(self):
        return LocalTarget(f"asked/{self.date}")

    def run(self):
        yield self.clone(Fails)


class Root(Secretive, WrapperTask):
    date = DateParameter()

    def requires(self):
        of_params = {name: getattr(self, name) for name in ("password", "token", "pin", "keys")}
        yield self.clone(Works)
        yield self.clone(Fails)
        yield self.clone(Forgets)
        yield self.clone(Missing)
        yield [self.clone(Batched, n=n) for n in range(3)]
        yield [self.clone(Unplanned, how=n) for n in range(5)]
        yield self.clone(Asks)
        yield RangeDailyBase(of=Works, of_params=of_params, start=self.date, days_back=99999, task_limit=5)
"""


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = f"secretive_{tmp_path.name.replace('-', '_')}.py"
    (tmp_path / name).write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUBAKO_STATE", str(tmp_path / "state"))
    return name


@pytest.mark.parametrize("box", ["none", pytest.param("host", marks=pytest.mark.box)])
def test_concealed_values_are_nowhere(pipeline: str, tmp_path: Path, say: Callable[..., Said], box: str) -> None:
    given = [word for name, value in SECRETS.items() for word in (f"--{name}", value)]
    day = ["--date", "2010-01-01", *given]
    range_ = ["--from", "2010-01-01", "--to", "2010-01-05", *given]
    said = [
        say("run", pipeline, "Root", *day, "--box", box),
        say("run", pipeline, "Root", *day, "--box", box, "--retries", "1", "--format", "json"),
        say("--debug", "run", pipeline, "Works", *day, "--box", box),
        say("backfill", pipeline, "Fails", *range_, "--box", box, "--workers", "2"),
        say("backfill", pipeline, "Works", *range_, "--dry-run"),
        say("history"),
        say("history", "--format", "json"),
        say("status", pipeline, "Works", *range_),
        say("why", pipeline, "Fails", *day),
        say("why", pipeline, "Root", *day, "--format", "json"),
        say("why", pipeline, "Choosy", "--choice", "hunter2", "--number", "1"),
        say("run", pipeline, "Choosy", "--choice", "hunter2", "--number", "1"),
        say("run", pipeline, "Choosy", "--choice", "a", "--number", "hunter2"),
    ]
    assert [each.code for each in said] == [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 2, 2, 2]
    assert "it broke" in said[0].out
    assert json.loads(said[1].out)
    printed = "\n".join(each.out + each.err for each in said)
    kept = {
        path: path.read_bytes().decode(errors="replace") for path in (tmp_path / "state").rglob("*") if path.is_file()
    }
    assert any("it broke" in text for text in kept.values())
    for spelt in SPELT:
        assert [line for line in printed.splitlines() if spelt in line] == []
        assert [path for path, text in kept.items() if spelt in text] == []
