"""The program as people start it: scripts, words, errors, exit codes, locks, signals, boxes.

`luigi` takes a command line as the program does, in a fork of a process that has imported it (`forks.py`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Python = Callable[..., subprocess.CompletedProcess[str]]
Luigi = Callable[..., subprocess.CompletedProcess[str]]
JUBAKO = ["-m", "jubako", "luigi"]
LUIGI = ["-m", "jubako.luigi"]

SLOW = """
import luigi, os, time

class Slow(luigi.Task):
    n = luigi.IntParameter()

    def output(self):
        return luigi.LocalTarget(f"slow-{self.n}")

    def run(self):
        open("started", "w").close()
        while not os.path.exists("go"):
            time.sleep(0.02)
        with self.output().open("w") as file:
            file.write("x")

class All(luigi.WrapperTask):
    def requires(self):
        return [Slow(n) for n in range(3)]
"""


@pytest.mark.parametrize("words", [JUBAKO, LUIGI])
def test_both_ways_in_are_one_program(python: Python, tmp_path: Path, words: list[str]) -> None:
    result = python([*words, "--module", "fan", "Merge"], cwd=tmp_path)
    assert "This progress looks :)" in result.stderr
    assert "INFO: 9 tasks run, not boxed" in result.stderr
    assert (tmp_path / "merged.txt").exists()


def test_script_runs_as_it_stands(luigi: Luigi, tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("NAME = 'made'\n")
    (tmp_path / "script.py").write_text(
        "import sys, luigi, neighbour\n"
        "class Made(luigi.Task):\n"
        "    n = luigi.IntParameter()\n"
        "    def output(self): return luigi.LocalTarget(neighbour.NAME)\n"
        "    def run(self): self.output().open('w').close()\n"
        "if __name__ == '__main__':\n"
        "    print(sys.argv, luigi.run(main_task_cls=Made, local_scheduler=True))\n"
    )
    result = luigi(["script.py", "--n", "3", "--no-lock"], cwd=tmp_path)
    assert result.stdout == "['script.py', '--n', '3', '--no-lock'] True\n"
    assert (tmp_path / "made").exists()


def test_deps_lists_the_way_to_a_family(luigi: Luigi) -> None:
    result = luigi(["deps", "--module", "fan", "Count", "--number", "1", "--upstream-family", "Shard"])
    assert result.stdout.splitlines() == [
        "   TASK: Count(number=1, shards=4)",
        "                       : [FileSystem] counts/1.txt",
        "                       : [FileSystem] log/1",
        "   TASK: Shard(number=1, shards=4)",
        "                       : [FileSystem] shards/1-of-4.txt.gz",
    ]
    assert luigi(["deps", "--module", "fan", "Merge", "--upstream-family", "Nobody"]).stdout == ""


def test_deps_and_tree_are_luigis(python: Python, luigi: Luigi, tmp_path: Path) -> None:
    code = (
        "import luigi, fan, re\nfrom luigi.tools.deps_tree import print_tree\n"
        "open('merged.txt', 'w').close()\nprint(print_tree(fan.Everything()))\n"
    )
    (tmp_path / "tree.py").write_text(code)
    theirs = python(["tree.py"], cwd=tmp_path)
    ours = luigi(["tree.py"], cwd=tmp_path)
    assert ours.stdout == theirs.stdout
    drawn = luigi(["deps-tree", "--module", "fan", "Everything"], cwd=tmp_path).stdout
    assert drawn.splitlines()[1:3] == [
        "└─--[Everything-{} (PENDING)]",
        "    |---[Merge-{'shards': '4', 'fails': 'False'} (COMPLETE)]",
    ]


def test_grep_finds_tasks_of_the_ledger(luigi: Luigi, tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    luigi(["--module", "trouble", "NeedsOf", "--what", "Fine,Raises"], cwd=tmp_path, JUBAKO_STATE=state)
    found = luigi(["grep", "--prefix", "Fine"], JUBAKO_STATE=state).stdout
    assert found.startswith("Fine_9_") and found.endswith(": DONE\n") and found.count("\n") == 1
    failed = luigi(["grep", "--status", "failed", "--scheduler-port", "1"], JUBAKO_STATE=state).stdout
    assert failed.startswith("Raises_9_") and failed.count("\n") == 1
    assert luigi(["grep"], fails=True).returncode == 2


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        ("--module nowhere Task", 1, "there is no module 'nowhere'"),
        ("--module trouble Fien", 1, "No task Fien. Did you mean:"),
        ("--module trouble", 1, "No task specified"),
        ("--module trouble Fine --n x", 4, "ERROR: Fine: --n 'x' can't be read"),
        ("--module trouble Hidden", 4, "ERROR: Hidden[args=(), kwargs={}]: requires the 'name' parameter to be set"),
        ("--module trouble Fine --nn 3", 2, "unrecognized arguments: --nn 3"),
        ("--module trouble Fine --workers", 2, "expected one argument"),
        ("--module trouble Clash", 1, "two parameters have one flag"),
        ("--module trouble Fine --box moon", 1, "moon is not a valid choice from"),
        ("--module trouble Fine --worker-task-process-context nowhere.Context", 4, "there is no nowhere.Context"),
        ("deps --module trouble Nope", 1, "No task Nope"),
    ],
)
def test_wrong_line_is_a_sentence_and_an_exit_code(
    luigi: Luigi, tmp_path: Path, line: str, code: int, sentence: str
) -> None:
    result = luigi([*(["--no-lock"] if line[0] == "-" else []), *line.split()], cwd=tmp_path, fails=True)
    assert (result.returncode, "Traceback" in result.stderr) == (code, False)
    assert sentence in result.stderr


def test_flag_of_a_task_comes_before_one_of_ours(luigi: Luigi, tmp_path: Path) -> None:
    line = ["--module", "trouble", "Boxes", "--box", "of cards"]
    assert luigi(line, cwd=tmp_path).stdout == "of cards\n"
    assert luigi([*line, "--jubako-box", "none"], cwd=tmp_path).stdout == "of cards\n"
    shown = luigi([*line, "--help"], cwd=tmp_path).stdout
    assert shown.count("--box BOX") == 2 and "--strict" in shown  # in the usage and in the list


def test_settings_that_mean_nothing_are_named(luigi: Luigi, tmp_path: Path) -> None:
    (tmp_path / "luigi.cfg").write_text("[worker]\ntask_limit = 3\n[email]\nreceiver = x@example.org\n")
    line = ["--module", "trouble", "Fine", "--scheduler-host", "far", "--scheduler-batch-emails"]
    said = luigi(line, cwd=tmp_path).stderr
    for text in (
        "[worker] task_limit changes nothing in jubako: there is no limit on how many tasks a run has",
        "[core] scheduler_host changes nothing in jubako: there is no scheduler server, all is scheduled here",
        "[scheduler] batch_emails changes nothing in jubako: no mail is sent",
        "[email] changes nothing in jubako: name a jubako.toml with hooks in $JUBAKO_CONFIG",
    ):
        assert f"WARNING: {text}" in said


def test_hooks_of_a_file_that_the_environment_names_are_told(python: Python, tmp_path: Path) -> None:
    (tmp_path / "hooks.toml").write_text(
        """[[notify]]\ncommand = ["sh", "-c", "echo $JUBAKO_OUTCOME $JUBAKO_ASKED > told"]\non = ["success"]\n"""
    )
    settings = {"JUBAKO_CONFIG": str(tmp_path / "hooks.toml")}
    assert python([*LUIGI, "--module", "fan", "Merge"], cwd=tmp_path, **settings).returncode == 0
    assert (tmp_path / "told").read_text() == "success Merge(shards=4, fails=False)\n"


def test_strict_makes_what_is_not_there_the_exit_code(luigi: Luigi, tmp_path: Path) -> None:
    line = ["--module", "calendar_pages", "RangeDaily", "--of", "MyDailyTask", "--start", "2021-09-01"]
    limit = ["--now", "1632052800", "--task-limit", "2", "--log-level", "WARNING"]
    plain = luigi([*line, *limit], cwd=tmp_path)
    assert plain.stderr == (
        "WARNING: RangeDaily of MyDailyTask: 19 wanted = 2 run + 17 over the limit (task limit 2)\n"
    )
    assert luigi([*line, *limit, "--strict"], cwd=tmp_path, fails=True).returncode == 1


def test_retries_are_made_where_it_is_kept_alive(luigi: Luigi, tmp_path: Path) -> None:
    (tmp_path / "flaky.py").write_text(
        "import luigi, os\n"
        "class Flaky(luigi.Task):\n"
        "    retry_count = 3\n"
        "    def output(self): return luigi.LocalTarget('made')\n"
        "    def run(self):\n"
        "        open('tries', 'a').write('x')\n"
        "        if os.path.getsize('tries') < 3: raise ValueError('not yet')\n"
        "        self.output().open('w').close()\n"
    )
    line = ["--module", "flaky", "Flaky"]
    assert "looks :( because there were failed tasks" in luigi(line, cwd=tmp_path).stderr
    assert (tmp_path / "tries").read_text() == "x"
    (tmp_path / "tries").unlink()
    said = luigi([*line, "--worker-keep-alive", "--scheduler-retry-delay", "0"], cwd=tmp_path).stderr
    assert "looks :) because there were failed tasks but they all succeeded in a retry" in said


def test_context_is_around_every_task(luigi: Luigi, tmp_path: Path) -> None:
    (tmp_path / "around.py").write_text(
        "class Around:\n"
        "    def __init__(self, process): self.process = process\n"
        "    def __enter__(self): print('in', self.process.task, self.process.worker_id)\n"
        "    def __exit__(self, *error): print('out', self.process.worker_timeout)\n"
    )
    line = ["--module", "trouble", "Fine", "--worker-task-process-context", "around.Around", "--worker-id", "me"]
    assert luigi(line, cwd=tmp_path).stdout == "in Fine(n=0) me\nout 0\n"
    boxed = luigi([*line, "--n", "1", "--box", "host"], cwd=tmp_path)
    assert boxed.stdout == "in Fine(n=1) me\nout 0\n"
    assert "each in a box" in boxed.stderr
    line[line.index("around.Around")] = "around.Nowhere"
    refused = luigi(line, cwd=tmp_path, fails=True)
    assert refused.returncode == 4
    assert "[worker] task_process_context: there is no around.Nowhere" in refused.stderr


def test_same_line_runs_once_at_a_time(tmp_path: Path, python: Python, start: Any) -> None:
    first = start(tmp_path, "All")
    second = python([*LUIGI, *LINE, "All"], cwd=tmp_path, fails=True, **places(tmp_path))
    assert (second.returncode, "runs already; --no-lock" in second.stderr) == (33, True)
    (tmp_path / "go").touch()
    assert first.communicate(timeout=60)[0].count("done      ") == 4


def test_usr1_winds_down(tmp_path: Path, start: Any) -> None:
    process = start(tmp_path, "All")
    process.send_signal(signal.SIGUSR1)
    (tmp_path / "go").touch()
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 25
    assert "* 1 ran successfully:\n    - 1 Slow(n=0)" in said
    assert "* 3 was not granted run permission by the scheduler:" in said


def test_interrupt_ends_in_good_order(tmp_path: Path, start: Any) -> None:
    process = start(tmp_path, "All")
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert "INFO: interrupted: Slow(n=0) was stopped, 3 tasks were not begun; the same command carries on" in said
    assert "Traceback" not in said


@pytest.mark.box
def test_box_publishes_whole_and_names_what_was_not_declared(python: Python, tmp_path: Path) -> None:
    (tmp_path / "boxed.py").write_text(
        "import luigi, datetime\n"
        "from luigi.date_interval import Week\n"
        "class Place(luigi.Config):\n"
        "    name = luigi.Parameter(default='nowhere')\n"
        "class Boxed(luigi.Task):\n"
        "    week = luigi.DateIntervalParameter()\n"
        "    fails = luigi.BoolParameter(significant=False)\n"
        "    def output(self): return [luigi.LocalTarget('one'), luigi.LocalTarget('two')]\n"
        "    def run(self):\n"
        "        for target in self.output():\n"
        "            with target.open('w') as file: file.write(f'{type(self.week)} {Place().name}')\n"
        "            if self.fails: raise ValueError('half done')\n"
        "        open('stray', 'w').close()\n"
    )
    (tmp_path / "luigi.cfg").write_text("[jubako]\nbox = host\ndurability = relaxed\n[Place]\nname = here\n")
    line = [*LUIGI, "--module", "boxed", "Boxed", "--week", "2021-W01"]
    failed = python([*line, "--fails"], cwd=tmp_path).stderr
    assert "each in a box" in failed
    assert not (tmp_path / "one").exists()
    made = python(line, cwd=tmp_path).stderr
    assert f"WARNING: Boxed(week=2021-W01) wrote 1 undeclared path (dropped): {tmp_path}/stray" in made
    assert (tmp_path / "two").read_text() == "<class 'luigi.date_interval.Week'> here"
    assert not (tmp_path / "stray").exists()


@pytest.mark.box
def test_box_that_makes_less_than_declared_has_luigis_status_and_is_named(python: Python, tmp_path: Path) -> None:
    (tmp_path / "less.py").write_text(
        "import luigi\n"
        "class Less(luigi.Task):\n"
        "    def output(self): return [luigi.LocalTarget('made'), luigi.LocalTarget('unmade')]\n"
        "    def run(self):\n"
        "        with self.output()[0].open('w') as file: file.write('made')\n"
        "class Needs(luigi.Task):\n"
        "    def requires(self): return Less()\n"
        "    def output(self): return luigi.LocalTarget('needs')\n"
        "    def run(self): raise AssertionError\n"
    )
    line = [*LUIGI, "--module", "less", "--box", "host"]
    said = python([*line, "Less"], cwd=tmp_path).stderr
    assert "1 ran successfully" in said and "each in a box" in said
    assert f"Less() ran and did not make {tmp_path}/unmade" in said
    assert (tmp_path / "made").read_text() == "made"
    (tmp_path / "made").unlink()
    needing = python([*line, "Needs"], cwd=tmp_path).stderr
    assert "RuntimeError: Unfulfilled dependency at run time: Less__99914b932b (unmade)" in needing


LINE = ["--module", "slow", "--retcode-already-running", "33", "--retcode-not-run", "25"]


def places(folder: Path) -> dict[str, str]:
    return {"JUBAKO_STATE": str(folder / "state"), "TMPDIR": str(folder)}


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Any:
    def begin(folder: Path, task: str) -> subprocess.Popen[str]:
        (folder / "slow.py").write_text(SLOW)
        source = Path(__file__).parents[2] / "src"
        process = subprocess.Popen(
            [sys.executable, *LUIGI, *LINE, task],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(source), "HOME": str(folder), **places(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        request.addfinalizer(process.kill)
        deadline = time.monotonic() + 60
        while not (folder / "started").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        return process

    return begin
