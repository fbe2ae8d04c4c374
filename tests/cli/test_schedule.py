"""`jubako schedule` as a process: what it lists, what it refuses, what it runs, how it stops."""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from jubako.kernel.process_tree import find_tree

PIPELINE = """
import datetime
from jubako import DateParameter, LocalTarget, Task, YearParameter, schedule

@schedule("0 6 * * *", timezone="Asia/Tokyo")
class Daily(Task):
    date = DateParameter()
    def output(self):
        return LocalTarget(f"daily-{self.date}.txt")
    def run(self):
        with self.output().open("w") as file:
            file.write("made")

@schedule("0 6 * * *", since="2026-03-12")
class Growing(Daily):
    pass

@schedule("0 6 1 1 *")
class Yearly(Task):
    year = YearParameter()
    def output(self):
        return LocalTarget(f"yearly-{self.year:%Y}.txt")
    def run(self):
        with self.output().open("w") as file:
            file.write("made")
"""
SLOW = """
from jubako import DateMinuteParameter, LocalTarget, Task, schedule

@schedule("MINUTE * * * *", catch_up="all", name="slow")
def slow(moment):
    return Slow(minute=moment.replace(tzinfo=None))

class Slow(Task):
    minute = DateMinuteParameter()
    def output(self):
        return LocalTarget(f"slow-{self.minute:%M}.txt")
    def run(self):
        with open("started", "w"):
            pass
        with open("go") as go:
            go.read()
        with self.output().open("w") as file:
            file.write("made")
"""
BROKEN = """
from jubako import Task, schedule

@schedule({options})
class Wrong(Task):
    pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/pipe.py").write_text(PIPELINE)
    half_an_hour_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=30)
    (tmp_path / "work/slow.py").write_text(SLOW.replace("MINUTE", str(half_an_hour_ago.minute)))
    return tmp_path / "work"


def start(folder: Path, *words: str, pipeline: str = "pipe.py") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "jubako", "schedule", pipeline, *words],
        cwd=folder,
        env={**os.environ, "JUBAKO_STATE": str(folder.parent / "state"), "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *words: str, pipeline: str = "pipe.py") -> tuple[int, str, str]:
    process = start(folder, *words, pipeline=pipeline)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def put_back(folder: Path, name: str, seconds: int) -> None:
    """Makes the ledger say that the schedule was last looked at so much earlier, on a full minute."""
    connection = sqlite3.connect(folder.parent / "state/ledger.sqlite")
    with connection:
        connection.execute(
            "UPDATE schedules SET settled_s = settled_s / 60 * 60 - ? WHERE name = ?", (seconds - 1, name)
        )
    connection.close()


def test_list_shows_the_next_firings_and_what_each_runs(folder: Path) -> None:
    code, out, _ = run(folder, "--list", "--count", "1", "--after", "2026-03-14T12:00Z")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["SCHEDULE", "LOCAL", "UTC", "RUNS"],
        ["Daily", "2026-03-15", "06:00", "JST", "2026-03-14", "21:00", "Daily(date=2026-03-14)"],
        ["Growing", "2026-03-15", "06:00", "UTC", "2026-03-15", "06:00"]
        + ["Growing(date=2026-03-12)", "and", "2", "more"],
        ["Yearly", "2027-01-01", "06:00", "UTC", "2027-01-01", "06:00", "Yearly(year=2026)"],
    ]


def test_fire_runs_what_the_schedule_runs_at_that_moment(folder: Path) -> None:
    code, out, err = run(folder, "--fire", "Growing", "--at", "2026-03-14", "--box", "none", "--format", "json")
    assert code == 0, err
    assert json.loads(out)["counts"]["done"] == 2
    assert sorted(path.name for path in folder.glob("daily-*")) == ["daily-2026-03-12.txt", "daily-2026-03-13.txt"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--list", "--once"], "--list and --once are different things to do"),
        (["--count", "3"], "--count is for --list"),
        (["--after", "2026-01-01"], "--after is for --list"),
        (["--at", "2026-01-01"], "--at is for --fire"),
        (["--fire", "Daily"], "--fire needs the moment of the firing"),
        (["--fire", "Dayly", "--at", "2026-01-01"], "there is no schedule 'Dayly'"),
        (["--fire", "Daily", "--at", "soon"], "'soon' is no moment"),
        (["--list", "--after", "soon"], "'soon' is no moment"),
    ],
)
def test_options_that_make_no_sense_are_refused(folder: Path, words: list[str], said: str) -> None:
    code, _, err = run(folder, *words)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ('"0 0 30 2 *"', "the cron '0 0 30 2 *' never comes true"),
        ('"@daily", timezone="Asia/Tokio"', "did you mean Asia/Tokyo"),
    ],
)
def test_pipeline_with_a_wrong_schedule_is_refused_with_its_line(folder: Path, options: str, said: str) -> None:
    (folder / "broken.py").write_text(BROKEN.format(options=options))
    code, _, err = run(folder, "--list", pipeline="broken.py")
    assert code == 2
    assert "broken.py:4: importing the pipeline failed" in err
    assert said in err


def test_pipeline_without_schedules_is_refused(folder: Path) -> None:
    (folder / "plain.py").write_text("from jubako import Task\n\nclass Plain(Task):\n    pass\n")
    code, _, err = run(folder, pipeline="plain.py")
    assert code == 2
    assert "there is nothing scheduled in" in err
    assert "@schedule(" in err


def test_once_makes_up_for_what_was_missed_and_no_moment_twice(folder: Path) -> None:
    assert run(folder, "--once", "--box", "none")[0] == 0
    put_back(folder, "Yearly", 740 * 86_400)
    code, out, err = run(folder, "--once", "--box", "none", "--durability", "relaxed")
    assert code == 0, out + err
    assert out.count(": started") == 1
    assert out.count(": done, ") == 1
    assert "missed by more than 60 s and not made up for (catch_up=latest)" in out
    (made,) = folder.glob("yearly-*")
    again = run(folder, "--once", "--box", "none")
    assert "started" not in again[1]
    connection = sqlite3.connect(folder.parent / "state/ledger.sqlite")
    assert connection.execute("SELECT asked, status FROM runs").fetchall() == [
        (f"Yearly(year={made.stem.removeprefix('yearly-')})", "SUCCESS")
    ]
    connection.close()


class Service:
    """A scheduler with one firing of `slow` under way, which goes on until `go` is written to; the next is far off."""

    def __init__(self, folder: Path, *words: str) -> None:
        assert run(folder, "--once", "--box", "none", pipeline="slow.py")[0] == 0
        put_back(folder, "slow", 3600)
        os.mkfifo(folder / "go")
        os.mkfifo(folder / "started")
        self.folder = folder
        self.process = start(folder, "--box", "none", "--durability", "relaxed", *words, pipeline="slow.py")
        with (folder / "started").open() as started:
            started.read()
        self._tree = find_tree(self.process.pid)

    def clear_away(self) -> None:
        """Kills what a test that failed has left."""
        for pid in self._tree:
            with suppress(OSError):
                if os.path.samefile(f"/proc/{pid}/cwd", self.folder):
                    os.kill(pid, signal.SIGKILL)
        self.process.communicate()

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def serve(folder: Path) -> Iterator[Callable[..., Service]]:
    services: list[Service] = []

    def begin(*words: str) -> Service:
        services.append(Service(folder, *words))
        return services[-1]

    yield begin
    for service in services:
        service.clear_away()


def test_first_signal_lets_a_run_finish(folder: Path, serve: Callable[..., Service]) -> None:
    service = serve()
    refused = run(folder, "--once", pipeline="slow.py")
    assert refused[0] == 4
    assert f"by process {service.process.pid}" in refused[2]
    service.process.send_signal(signal.SIGTERM)
    assert service.process.stdout is not None
    for line in service.process.stdout:
        if line.startswith("stopping when 1 run"):
            break
    with (folder / "go").open("w"):
        pass
    code, out, _ = service.end()
    assert code == 0
    assert ": done, " in out
    assert len(list(folder.glob("slow-*"))) == 1


def test_second_signal_cancels_a_run_and_leaves_nothing(folder: Path, serve: Callable[..., Service]) -> None:
    service = serve()
    assert service.process.stdout is not None
    service.process.send_signal(signal.SIGINT)
    for line in service.process.stdout:
        if line.startswith("stopping when 1 run"):
            break
    service.process.send_signal(signal.SIGINT)
    code, out, _ = service.end()
    assert code == 130
    assert "FAILED (exit code 130)" in out
    assert list(folder.glob("slow-*")) == []


def test_run_of_a_scheduler_that_is_killed_goes_on_and_its_firing_is_not_started_again(
    folder: Path, serve: Callable[..., Service]
) -> None:
    service = serve()
    service.process.kill()
    service.process.wait()
    with (folder / "go").open("w"):
        pass
    code, out, _ = service.end()  # there is an end when the run, which has the same stdout, has ended too
    assert code == -signal.SIGKILL
    (moment,) = re.findall(r"^slow (\S+ \S+) UTC: started$", out, re.MULTILINE)
    assert [path.name for path in folder.glob("slow-*")] == [f"slow-{moment[-2:]}.txt"]
    connection = sqlite3.connect(folder.parent / "state/ledger.sqlite")
    (settled_s,) = connection.execute("SELECT settled_s FROM schedules WHERE name = 'slow'").fetchone()
    assert connection.execute("SELECT status FROM runs").fetchall() == [("SUCCESS",)]
    connection.close()
    assert settled_s >= datetime.datetime.fromisoformat(f"{moment}+00:00").timestamp()


def test_hooks_are_told_of_a_run_that_was_killed(folder: Path, serve: Callable[..., Service]) -> None:
    (folder / "jubako.toml").write_text(
        """[[notify]]\ncommand = ["sh", "-c", "echo $JUBAKO_OUTCOME: $JUBAKO_SUMMARY > told"]\n"""
    )
    service = serve()
    (run_pid,) = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    os.kill(int(run_pid), signal.SIGKILL)
    assert service.process.stdout is not None
    for line in service.process.stdout:
        if "killed by SIGKILL" in line:
            break
    service.process.send_signal(signal.SIGTERM)
    assert service.end()[0] == 0
    told = (folder / "told").read_text()
    assert told.startswith("failure: slow ")
    assert "killed by SIGKILL" in told


def test_metrics_of_the_scheduler_and_of_its_runs_are_served(folder: Path, serve: Callable[..., Service]) -> None:
    service = serve("--metrics-address", "127.0.0.1:0")
    assert service.process.stdout is not None
    url = service.process.stdout.readline().removeprefix("metrics at ").strip()
    pipeline = str(folder / "slow.py")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
        assert f'jubako_schedule_running{{pipeline="{pipeline}",schedule="slow"}} 1\n' in answer.read().decode()
    with (folder / "go").open("w"):
        pass
    for line in service.process.stdout:
        if ": done, " in line:
            break
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
        served = answer.read().decode()
    assert f'jubako_schedule_firings_total{{outcome="done",pipeline="{pipeline}",schedule="slow"}} 1\n' in served
    assert f'jubako_runs_total{{outcome="success",pipeline="{pipeline}"}} 1\n' in served
    assert f'jubako_tasks_total{{family="Slow",pipeline="{pipeline}",status="done"}} 1\n' in served
    service.process.send_signal(signal.SIGTERM)
    assert service.end()[0] == 0


@pytest.mark.parametrize(
    ("address", "code", "said"),
    [("9108", 2, "'9108' is not of the form HOST:PORT"), ("192.0.2.1:9108", 3, "cannot be served at 192.0.2.1:9108")],
)
def test_address_that_cannot_be_served_is_refused(folder: Path, address: str, code: int, said: str) -> None:
    refused = run(folder, "--once", "--metrics-address", address)
    assert (refused[0], said in refused[2]) == (code, True), refused


def test_print_systemd_unit_has_the_options_given_and_starts_nothing(folder: Path) -> None:
    code, out, _ = run(folder, "--print-systemd-unit", "--workers", "3", "--strict", "--box", "none")
    assert code == 0
    assert f"\nWorkingDirectory={folder}\n" in out
    assert f"\nEnvironment=JUBAKO_STATE={folder.parent}/state\n" in out
    serving = run(
        folder, "--print-systemd-unit", "--metrics-file", "jubako.prom", "--metrics-address", "localhost:9108"
    )
    assert " schedule --metrics-file jubako.prom --metrics-address localhost:9108 -- pipe.py\n" in serving[1]
    assert "-P -m jubako schedule --workers 3 --box none --strict -- pipe.py\n" in out
    assert not (folder.parent / "state").exists()
