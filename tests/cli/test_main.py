"""The command itself: errors as sentences with exit codes, suggestions, and what start-up may cost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jubako._version import __version__

SOURCE = str(Path(__file__).parents[2] / "src")


def jubako(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jubako", *arguments],
        env={**os.environ, "PYTHONPATH": SOURCE, **environment},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_version_is_printed_and_imports_nothing_but_click() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "from jubako.cli.main import main\n"
        "try: main(['--version'])\n"
        "except SystemExit: pass\n"
        "print(*sorted(m for m in set(sys.modules) - before if m.partition('.')[0] in ('jubako', 'rich', 'sqlite3',"
        " 'ctypes', 'asyncio', 'multiprocessing')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, modules = result.stdout.splitlines()
    assert version == f"jubako {__version__}"
    assert modules.split() == [
        *("jubako", "jubako._version", "jubako.cli", "jubako.cli.exits", "jubako.cli.main"),
        *("jubako.cli.terminal", "jubako.errors", "jubako.records"),
    ]


def test_help_lists_every_command_and_the_exit_codes() -> None:
    result = jubako("--help")
    assert result.returncode == 0
    for word in ("run", "backfill", "box", "doctor", "completion", "Exit codes", "examples/weather"):
        assert word in result.stdout


def test_no_command_shows_the_help_and_is_wrong_usage() -> None:
    result = jubako()
    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage: jubako" in result.stderr


def test_unknown_command_is_wrong_usage_with_a_suggestion() -> None:
    result = jubako("backfil")
    assert result.returncode == 2
    assert "No such command 'backfil'. Did you mean backfill?" in result.stderr


def test_unknown_option_is_wrong_usage_with_a_suggestion() -> None:
    result = jubako("completion", "--hlep")
    assert result.returncode == 2
    assert "--help" in result.stderr


def test_missing_pipeline_is_a_sentence_a_hint_and_no_traceback(tmp_path: Path) -> None:
    result = jubako("run", "gone.py", "Day", cwd=tmp_path)
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert lines[0] == "Error: there is no pipeline gone.py"
    assert lines[1].startswith("hint: ")
    assert len(lines) == 2


def test_debug_shows_the_traceback_too(tmp_path: Path) -> None:
    result = jubako("run", "gone.py", "Day", "--debug", cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" in result.stderr
    assert "Error: there is no pipeline gone.py" in result.stderr


def test_error_with_escape_sequences_in_a_name_reaches_the_terminal_as_text(tmp_path: Path) -> None:
    result = jubako("run", "\x1b[31mred\x07.py", cwd=tmp_path)
    assert "\x1b" not in result.stderr
    assert r"\x1b[31mred\x07.py" in result.stderr


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        ("jubako.errors.InputError('x')", 2),
        ("jubako.errors.HostError('x')", 3),
        ("jubako.errors.ConflictError('x')", 4),
        ("jubako.errors.WorkError('x')", 1),
        ("jubako.errors.BugError('x')", 70),
        ("OSError(28, 'No space left on device', '/full')", 3),
        ("KeyError('x')", 70),
        ("KeyboardInterrupt()", 130),
    ],
)
def test_each_kind_of_error_has_its_exit_code(raised: str, code: int) -> None:
    script = (
        "import sys, types, click, jubako.errors\n"
        "from jubako.cli.main import main\n"
        "@click.command()\n"
        f"def completion(): raise {raised}\n"
        "sys.modules['jubako.cli.completion'] = types.SimpleNamespace(completion=completion)\n"
        "main(['completion'])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("Interrupted" if code == 130 else "Error: ")


def test_reader_that_goes_away_ends_the_command_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [sys.executable, "-m", "jubako", "completion", "bash"],
        env={**os.environ, "PYTHONPATH": SOURCE},
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (result.returncode, result.stderr) == (141, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("line", ["--version", "run --help", "nonsense"])
def test_full_output_is_one_sentence_and_no_traceback(line: str, unbuffered: str) -> None:
    environment = {**os.environ, "PYTHONPATH": SOURCE, "PYTHONUNBUFFERED": unbuffered}
    for streams in ("stdout", "stderr"), ("stdout",), ("stderr",):
        with open("/dev/full", "w") as full:
            result = subprocess.run(
                [sys.executable, "-m", "jubako", *line.split()],
                env=environment,
                stdout=full if "stdout" in streams else subprocess.PIPE,
                stderr=full if "stderr" in streams else subprocess.PIPE,
                text=True,
                check=False,
            )
        written = "stderr" if line == "nonsense" else "stdout"
        assert result.returncode == (3 if written in streams else 2 if line == "nonsense" else 0)
        if streams == ("stdout",) and written == "stdout":
            error, hint = result.stderr.splitlines()
            assert error.startswith("Error: ") and error.endswith("No space left on device")
            assert unbuffered or "stdout cannot be written" in error
            assert hint.startswith("hint: ")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_stream_is_no_error_and_no_file_is_taken_for_it(closed: str, tmp_path: Path) -> None:
    script = (
        "from jubako.cli.main import main\n"
        "import os, sys, types, click\n"
        "@click.command()\n"
        "def completion():\n"
        "    print('on stdout')\n"
        "    print('on stderr', file=sys.stderr)\n"
        "    os.write(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), b'the file')\n"
        "    os.write(1, b'more on stdout')\n"
        "sys.modules['jubako.cli.completion'] = types.SimpleNamespace(completion=completion)\n"
        "main(['completion'])"
    )
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", script, str(tmp_path / "file")]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": SOURCE}
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "file").read_text() == "the file"


@pytest.mark.parametrize("line", ["run p.py Day", "backfill p.py Day", "box run true", "doctor"])
def test_working_directory_that_is_gone_is_named_as_the_cause(line: str, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    result = subprocess.run(
        ["sh", "-c", 'rmdir ../gone; exec "$@"', "sh", sys.executable, "-P", "-m", "jubako", *line.split()],
        env={**os.environ, "PYTHONPATH": SOURCE, "JUBAKO_STATE": str(tmp_path / "state")},
        cwd=tmp_path / "gone",
        capture_output=True,
        text=True,
        check=False,
    )
    error, hint = result.stderr.splitlines()
    assert (result.returncode, result.stdout) == (3, "")
    assert error.startswith("Error: the working directory is gone")
    assert hint.startswith("hint: 'cd' to one that is there")


def test_completion_without_a_shell_lists_the_shells_in_one_line() -> None:
    result = jubako("completion")
    assert result.returncode == 2
    assert result.stderr.splitlines()[0].endswith("Choose from: bash, zsh, fish")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_asks_jubako(shell: str) -> None:
    result = jubako("completion", shell)
    assert result.returncode == 0
    assert f"_JUBAKO_COMPLETE={shell}_complete" in result.stdout


def test_completion_of_tasks_and_parameters_reads_the_pipeline(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        "from jubako.flow.parameters import YearParameter\nfrom jubako.flow.tasks.task import Task\n"
        "class YearReport(Task):\n    year = YearParameter()\nclass Other(Task):\n    pass\n"
        "class Between(YearReport):\n    until = YearParameter()\n"
    )

    def completed(line: str) -> list[str]:
        words = line.split(" ")
        environment = {
            "_JUBAKO_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        }
        entries = jubako(cwd=tmp_path, **environment).stdout.split()
        return [entry.partition(",")[2] for entry in entries]

    assert completed("jubako ba") == ["backfill"]
    assert completed("jubako run tasks.py Y") == ["YearReport"]
    assert "--year" in completed("jubako run tasks.py YearReport --ye")
    offered = completed("jubako backfill tasks.py YearReport --")
    assert "--from" in offered
    assert "--year" not in offered  # it is what goes from --from to --to
    assert {"--year", "--until"} <= set(completed("jubako backfill tasks.py Between --"))
    assert "--until" not in completed("jubako backfill tasks.py Between --year 2010 --")
    assert completed("jubako run broken.py Y") == []
    assert completed("jubako nonsense Y") == []
