"""`jubako box`: what it prints and where, its exit codes, and that each help fits a screen and shows two examples."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from jubako.boxes.keeping.kept_record import BoxRecord, Layer, format_created, save_record
from jubako.cli.box import box
from jubako.cli.box_report import changes_document
from jubako.cli.formats import format_document
from jubako.cli.main import main
from jubako.layers.change import Change

pytestmark = pytest.mark.box
SOURCE = Path(__file__).parents[2] / "src"


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


class Shell:
    """A folder to work in, and a state root."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.state = folder.parent / f"{folder.name}-state"
        self._capsys = capsys
        monkeypatch.chdir(folder)
        monkeypatch.setenv("JUBAKO_STATE", str(self.state))

    def here(self, *words: str) -> Said:
        """`jubako box WORDS` in this process: quick, and good for all that starts no command."""
        with pytest.raises(SystemExit) as ended:
            main(["box", *words])
        printed = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, printed.out, printed.err)

    def jubako(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The same in a process of its own, whose output a command can write to."""
        environment = os.environ | {"PYTHONPATH": str(SOURCE)}
        return subprocess.run(
            [sys.executable, "-m", "jubako", "box", *words],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def keep(self, box_id: str = "3f9c01ab", label: str = "make install") -> str:
        """A kept box as a run leaves one that wrote `new` and deleted `gone`."""
        directory = self.state / "boxes" / box_id
        (directory / "0/upper").mkdir(parents=True)
        (directory / "0/upper/new").write_text("hi\n")
        started_ns = os.stat(directory / "0/upper/new").st_ctime_ns
        layers = (Layer(os.path.realpath(self.folder), "0/upper"),)
        save_record(
            str(directory),
            BoxRecord(box_id, label, format_created(started_ns), str(self.folder), layers, started_ns=started_ns),
        )
        return box_id


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    (tmp_path / "work").mkdir()
    return Shell(tmp_path / "work", capsys, monkeypatch)


def test_run_leaves_stdout_to_the_command_and_lists_changes_on_stderr(shell: Shell) -> None:
    done = shell.jubako("run", "--", "sh", "-c", "echo out; echo hi > new; mkdir d; echo x > d/1; exit 3")
    assert done.returncode == 3
    assert done.stdout == "out\n"
    lines = done.stderr.splitlines()
    assert [line.split() for line in lines if line.startswith("added")] == [
        ["added", "2", "B", f"{shell.folder}/d/", "and", "1", "below"],
        ["added", "3", "B", f"{shell.folder}/new"],
    ]
    assert lines[-2:] == [
        "3 changes (5 B): 3 added.",
        "Dropped. Next time, --keep keeps them, and --commit PATH publishes some.",
    ]
    assert list(shell.folder.iterdir()) == []


def test_run_with_keep_names_the_box_and_what_to_do_with_it(shell: Shell) -> None:
    done = shell.jubako("run", "--keep", "sh", "-c", "echo hi > new")
    (box_id,) = os.listdir(shell.state / "boxes")
    assert done.returncode == 0
    assert f"Kept as {box_id}. Look around: jubako box enter {box_id}\n" in done.stderr
    entered = shell.jubako("enter", box_id, "--", "cat", "new")
    assert (entered.returncode, entered.stdout, entered.stderr) == (0, "hi\n", "")


def test_run_with_commit_publishes_and_says_what(shell: Shell) -> None:
    done = shell.jubako("run", "--commit", "new", "--", "sh", "-c", "echo hi > new; echo no > stray")
    assert done.returncode == 0
    assert "Committed 1 change at or below new." in done.stderr
    assert (shell.folder / "new").read_text() == "hi\n"
    assert os.listdir(shell.folder) == ["new"]


def test_run_with_commit_after_a_failure_says_that_nothing_was(shell: Shell) -> None:
    done = shell.jubako("run", "--commit", "new", "--", "sh", "-c", "echo hi > new; exit 9")
    assert done.returncode == 9
    assert "Nothing was committed, since the command failed with 9." in done.stderr
    assert os.listdir(shell.folder) == []


def test_run_with_changes_to_a_file_writes_every_change_there(shell: Shell) -> None:
    listed = shell.folder.parent / "changes.json"
    done = shell.jubako("run", "--format", "json", "--changes-to", str(listed), "mkdir", "-p", "a/b")
    assert done.returncode == 0
    document = json.loads(listed.read_text())
    assert document["schema"] == "jubako.box.changes/1"
    assert [(row["change"], row["type"], row["path"]) for row in document["changes"]] == [
        ("added", "directory", f"{shell.folder}/a"),
        ("added", "directory", f"{shell.folder}/a/b"),
    ]
    assert "2 changes (0 B): 2 added." in done.stderr.splitlines()


def test_run_of_a_command_that_is_not_there_ends_with_127_and_a_sentence(shell: Shell) -> None:
    done = shell.jubako("run", "no-such-command")
    assert done.returncode == 127
    assert "Error: cannot run 'no-such-command': No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_run_with_its_options_behind_the_command_leaves_them_to_it(shell: Shell) -> None:
    assert shell.jubako("run", "echo", "--keep", "--help").stdout == "--keep --help\n"


def test_run_without_a_command_is_wrong_usage(shell: Shell) -> None:
    done = shell.here("run")
    assert done.returncode == 2
    assert "CMD" in done.stderr


def test_ls_in_each_format_shows_the_kept_boxes(shell: Shell) -> None:
    shell.keep("aaaaaaaa", "first\nand second line")
    shell.keep("bbbbbbbb", "second")
    table = shell.here("ls").stdout.splitlines()
    assert [line.split()[0] for line in table] == ["ID", "aaaaaaaa", "bbbbbbbb"]
    assert "first\\nand second line" in table[1]
    document = json.loads(shell.here("ls", "--format", "json").stdout)
    assert [row["id"] for row in document["boxes"]] == ["aaaaaaaa", "bbbbbbbb"]
    rows = list(csv.DictReader(io.StringIO(shell.here("ls", "--format", "csv").stdout)))
    assert [row["label"] for row in rows] == ["first\nand second line", "second"]


def test_ls_without_a_box_says_how_to_make_one(shell: Shell) -> None:
    done = shell.here("ls")
    assert (done.returncode, done.stdout) == (0, "")
    assert "jubako box run --keep" in done.stderr


def test_changes_by_the_start_of_the_id_lists_them(shell: Shell) -> None:
    shell.keep()
    done = shell.here("changes", "3f9")
    assert done.stdout.splitlines()[1].split() == ["added", "3", "B", f"{shell.folder}/new"]
    assert done.stderr == "1 change (3 B): 1 added.\n"


def test_changes_of_a_box_that_is_not_there_suggests_the_one_meant(shell: Shell) -> None:
    shell.keep()
    done = shell.here("changes", "3f9c01ba")
    assert done.returncode == 2
    assert "there is no box '3f9c01ba'" in done.stderr
    assert "Did you mean 3f9c01ab?" in done.stderr


def test_commit_of_a_conflict_ends_with_4_and_publishes_nothing(shell: Shell) -> None:
    shell.keep()
    (shell.folder / "new").write_text("another program's")
    done = shell.here("commit", "3f9c01ab")
    assert done.returncode == 4
    assert f"{shell.folder}/new was changed on this machine" in done.stderr
    assert (shell.folder / "new").read_text() == "another program's"


def test_rm_removes_those_named_and_all(shell: Shell) -> None:
    for box_id in ("aaaaaaaa", "bbbbbbbb", "cccccccc"):
        shell.keep(box_id)
    (shell.state / "boxes/cccccccc/box.json").write_text("damaged")
    assert shell.here("rm", "aa").stdout == "aaaaaaaa\n"
    assert shell.here("rm", "--all").stdout == "bbbbbbbb\ncccccccc\n"
    assert os.listdir(shell.state / "boxes") == []


def test_rm_without_a_name_is_wrong_usage(shell: Shell) -> None:
    assert shell.here("rm").returncode == 2


def test_changes_for_people_count_what_is_in_a_new_directory(tmp_path: Path) -> None:
    changes = [
        Change("/a", "added", "directory"),
        Change("/a-b", "deleted", "file"),
        Change("/a/b", "added", "directory"),
        Change("/a/b/c", "added", "file", 1_234_567),
        Change("/evil\x1b[2J", "modified", "file", 999_999),
    ]
    text = format_document(changes_document(changes, "table"), "table")
    assert [line.split(maxsplit=1) for line in text.splitlines()[1:]] == [
        ["added", "1.2 MB  /a/ and 2 below"],
        ["deleted", "-       /a-b"],
        ["modified", "1.0 MB  /evil\\x1b[2J"],
    ]
    assert len(format_document(changes_document(changes, "csv"), "csv").splitlines()) == 6


@pytest.mark.parametrize("name", sorted(box.commands))
def test_help_fits_a_screen_and_shows_two_examples(name: str) -> None:
    command = box.commands[name]
    text = command.get_help(click.Context(command, info_name=f"jubako box {name}", max_content_width=100))
    lines = text.splitlines()
    assert len(lines) <= 52
    assert sum(line.strip().startswith(f"jubako box {name}") for line in lines) >= 2
