"""`jubako box create, exec, ps ...`: what is printed and where, exit codes, terminals, and what is refused by name."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from jubako.boxes.living.living_box import living_boxes
from jubako.boxes.state import open_state_root
from jubako.cli.main import main

pytestmark = pytest.mark.box
SOURCE = Path(__file__).parents[2] / "src"


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str


class Shell:
    """A folder to work in, and a state root."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capfd = capfd

    def __call__(self, *words: str) -> Said:
        """`jubako box WORDS` in this process; programs in boxes print to what is captured."""
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["box", *words])
        printed = self._capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, printed.out, printed.err)


@pytest.fixture
def shell(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("JUBAKO_STATE", str(tmp_path / "state"))
    yield Shell(tmp_path / "work", capfd)
    for box in living_boxes(open_state_root(str(tmp_path / "state"))):
        box.remove(force=True)


def test_create_prints_the_name_and_exec_leaves_stdout_and_status_to_the_command(shell: Shell) -> None:
    created = shell("create", "--name", "web")
    assert (created.status, created.out) == (0, "web\n")
    done = shell("exec", "--env", "A=1", "web", "--", "sh", "-c", "echo $A; echo no >&2; exit 5")
    assert done == Said(5, "1\n", "no\n")
    missing = shell("exec", "web", "no-such-program")
    assert missing == Said(127, "", "Error: cannot run 'no-such-program': No such file or directory\n")


def test_run_with_detach_is_create(shell: Shell) -> None:
    started = shell("run", "--detach", "--name", "web", "--", "sh", "-c", "echo out; read x")
    assert (started.status, started.out) == (0, "web\n")
    for words, why in (
        (("run", "-d", "--keep", "true"), "--detach and --keep exclude each other"),
        (("run", "--name", "web", "true"), "--name names a box that lives on"),
        (("exec", "-t", "-d", "web", "true"), "--detach and --tty exclude each other"),
        (("create", "--name", "web"), "there is a box 'web' already"),
        (("create", "--name", "-x"), "'-x' cannot be the name of a box"),
        (("create", "--from", "/no/such"), "/no/such, which the box should lie on, is no directory"),
        (("exec", "-e", "=1", "web", "true"), "'=1' sets no variable"),
        (("exec", "wbe", "true"), "there is no box 'wbe'"),
    ):
        refused = shell(*words)
        assert refused.status in (2, 4)
        assert why in refused.err


def test_ps_lists_what_runs_and_with_all_what_does_not(shell: Shell) -> None:
    shell("create", "--name", "web", "--", "sleep", "1000")
    shell("create", "--name", "done", "--", "sh", "-c", "exit 3")
    while len(running := json.loads(shell("ps", "--format", "json").out)["boxes"]) > 1:
        os.sched_yield()  # it ends by itself
    assert [(box["name"], box["kind"], box["status"], box["processes"], box["command"]) for box in running] == [
        ("web", "living", "running", 1, "sleep 1000")
    ]
    every = json.loads(shell("ps", "--all", "--format", "json").out)["boxes"]
    assert {box["name"]: (box["status"], box["exit_status"]) for box in every} == {
        "web": ("running", None),
        "done": ("exited", 3),
    }
    (member,) = json.loads(shell("ps", "web", "--format", "json").out)["processes"]
    assert member["command"] == "sleep 1000"


def test_ps_shows_a_command_in_the_foreground(shell: Shell) -> None:
    command = [sys.executable, "-m", "jubako", "box", "run", "--", "sh", "-c", "echo up; read x"]
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as run:
        assert run.stdout is not None
        run.stdout.readline()
        (row,) = json.loads(shell("ps", "--format", "json").out)["boxes"]
        run.communicate(b"go on\n")
    assert (row["kind"], row["name"], row["status"], row["command"]) == (
        *("command", "", "running", "sh -c 'echo up; read x'"),
    )
    assert json.loads(shell("ps", "--format", "json").out)["boxes"] == []


def test_logs_shows_the_end_and_reads_along(shell: Shell) -> None:
    os.mkfifo("gate")
    shell("create", "--name", "web", "--", "sh", "-c", "echo one; echo two; read x < gate; echo three")
    shell("exec", "--detach", "web", "--", "sh", "-c", "echo open > gate")
    assert shell("logs", "--follow", "web").out == "one\ntwo\nthree\n"
    assert shell("logs", "--tail", "2", "web").out == "two\nthree\n"
    assert shell("logs", "--tail", "0", "web").out == ""


def test_info_says_all_in_words_and_for_programs(shell: Shell) -> None:
    shell("create", "--name", "web", "--no-network", "--", "sleep", "1000")
    info = json.loads(shell("info", "web", "--format", "json").out)
    assert (info["name"], info["status"], info["command"], info["processes"]) == ("web", "running", "sleep 1000", 1)
    assert info["box"]["network"] == "none"
    assert info["cwd"] == str(shell.folder)
    shown = shell("info", "web").out
    assert "network=none" in shown
    assert str(info["keeper"]) in shown


def test_changes_commit_and_rm_take_names(shell: Shell) -> None:
    shell("create", "--name", "web")
    shell("exec", "web", "--", "sh", "-c", "echo hi > new")
    assert f"added   3 B   {shell.folder}/new" in shell("changes", "web").out
    running = shell("commit", "web")
    assert (running.status, running.err.splitlines()[0]) == (
        4,
        "Error: box web is running, and what it holds changes",
    )
    refused = shell("rm", "web")
    assert (refused.status, refused.err.splitlines()[0]) == (4, "Error: box web is running; nothing was removed")
    assert shell("stop", "web").out == "web\n"
    assert shell("commit", "web", "new").err == "Committed 1 change at or below new.\n"
    assert (shell.folder / "new").read_text() == "hi\n"
    assert "web" in shell("ls").out
    assert shell("rm", "web").out == "web\n"


def test_prune_says_what_goes_and_takes_only_what_does_not_run(shell: Shell) -> None:
    shell("create", "--name", "web")
    shell("create", "--name", "old")
    shell("stop", "old")
    pruned = shell("prune", "--yes")
    assert pruned.out == "old\n"
    assert "old: stopped" in pruned.err
    assert "web" in shell("ps").out


def talk(words: Sequence[str], *exchanges: tuple[bytes, bytes], size: tuple[int, int] = (31, 97)) -> tuple[bytes, int]:
    """What a program on a terminal prints when each answer is typed as soon as what comes before it has been printed;
    and its status."""
    pid, master = pty.fork()
    if pid == 0:
        termios.tcsetwinsize(0, size)
        os.environ["PYTHONPATH"] = str(SOURCE)
        os.execv(sys.executable, [sys.executable, "-m", "jubako", "box", *words])
    printed = seen = b""
    for prompt, answer in exchanges:
        while prompt not in seen:
            seen += os.read(master, 4096)
        printed += seen
        seen = seen.partition(prompt)[2]
        os.write(master, answer)
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:
            break
        printed += chunk
    os.close(master)
    return printed, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_terminal_is_the_boxes_with_job_control_and_follows_the_size_of_ours(shell: Shell) -> None:
    shell("create", "--name", "web")
    asleep = "sh -c 'echo up; exec sleep 1000'"
    script = f"tty; stty size; set -m; trap 'echo bye' EXIT; echo ready; read x; {asleep}; echo $?; exit 4"
    printed, status = talk(
        ["exec", "web", "--", "bash", "-c", script],
        (b"ready", b"go\r"),
        (b"up", b"\x03"),  # when it is in the foreground: the shell itself would take it as it likes
    )
    lines = printed.replace(b"\r", b"").split(b"\n")
    assert lines[:3] == [b"/dev/pts/0", b"31 97", b"ready"]
    assert lines[-2].endswith(b"bye")
    assert status in (4, 128 + signal.SIGINT)


def test_terminal_is_as_it_was_after_a_command(shell: Shell) -> None:
    shell("create", "--name", "web")
    code = (
        "import sys, termios; from jubako.cli.main import main\nbefore = termios.tcgetattr(0)\n"
        "try: main(['box', 'exec', 'web', 'sh', '-c', 'stty -echo; kill -9 $$'])\n"
        "except SystemExit as ended: print(ended.code, termios.tcgetattr(0) == before)\n"
    )
    pid, master = pty.fork()
    if pid == 0:
        os.environ["PYTHONPATH"] = str(SOURCE)
        os.execv(sys.executable, [sys.executable, "-c", code])
    printed = b""
    while b"\n" not in printed:
        printed += os.read(master, 4096)
    os.waitpid(pid, 0)
    os.close(master)
    assert printed == b"137 True\r\n"


def test_run_and_enter_of_a_kept_box_have_a_terminal_of_the_boxes_own(shell: Shell) -> None:
    printed, status = talk(
        ["run", "--tty", "--keep", "--", "sh", "-c", "tty; stty size; set -m; echo kept > file; read x; exit 5"],
        (b"31 97", b"on\r"),
    )
    lines = printed.replace(b"\r", b"").split(b"\n")
    assert (lines[:2], status) == ([b"/dev/pts/0", b"31 97"], 5)
    (box_id,) = (line.split()[-1].decode() for line in lines if line.startswith(b"Kept as"))
    printed, status = talk(["enter", box_id, "--", "sh", "-c", "tty; cat file; kill -15 $$"])
    assert printed.replace(b"\r", b"").split(b"\n")[:2] == [b"/dev/pts/0", b"kept"]
    assert status == 143
    assert shell("rm", box_id).status == 0


def test_command_on_a_terminal_that_is_not_there_says_so_as_without_one(shell: Shell) -> None:
    printed, status = talk(["run", "--tty", "--", "no-such-program"])
    assert status == 127
    assert b"Error: cannot run 'no-such-program': No such file or directory" in printed
    refused = shell("run", "--tty", "--", "true")
    assert (refused.status, refused.err) == (
        2,
        "Error: --tty needs a terminal, and stdin, stdout or stderr is none here\n",
    )


def test_diff_shows_text_as_patch_takes_it_for_both_kinds_of_boxes(shell: Shell) -> None:
    Path("file").write_text("one\ntwo\n")
    Path("gone").write_text("was here\n")
    shell("create", "--name", "web")
    assert shell("diff", "web") == Said(0, "", "")
    shell("exec", "web", "--", "sh", "-c", "echo three >> file; rm gone; echo new > new; head -c 9 /dev/zero > zeros")
    said = shell("diff", "web", ".")
    here = shell.folder
    assert said.status == 1
    assert said.out.splitlines() == [
        *(f"--- {here}/file", f"+++ {here}/file", "@@ -1,2 +1,3 @@", " one", " two", "+three"),
        *(f"--- {here}/gone", "+++ /dev/null", "@@ -1 +0,0 @@", "-was here"),
        *("--- /dev/null", f"+++ {here}/new", "@@ -0,0 +1 @@", "+new"),
    ]
    assert said.err == f"{here}/zeros: not text, no diff\n"
    assert shell("diff", "web", "file").out.count("+++") == 1
    assert "changed nothing at or below" in shell("diff", "web", "other").err
    kept = shell("snapshot", "web").out.strip()
    assert shell("diff", kept, ".").out == said.out
