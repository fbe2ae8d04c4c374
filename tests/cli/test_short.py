"""The command lines that are read without click end and print as they do when click reads them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jubako.cli.short import find_call

SOURCE = Path(__file__).parents[2] / "src"
BY_CLICK = "import sys; from jubako.cli.main import main; main(sys.argv[1:])"
MEASURED = re.compile(r'"(?:wall_s|user_s|system_s|peak_memory_bytes)": [\d.e-]+')
SHORT = "import sys; sys.argv[0] = 'jubako'; from jubako.__main__ import start; start()"


def ran(script: str, words: list[str], folder: Path, **environment: str) -> tuple[int, str, str]:
    state = folder.parent / "state"
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(SOURCE), "JUBAKO_STATE": str(state)} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )
    return done.returncode, MEASURED.sub("measured", done.stdout), done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--version"],
        ["box", "ls"],
        pytest.param(["box", "run", "--", "true"], marks=pytest.mark.box),
        pytest.param(["box", "run", "sh", "-c", "echo out; echo err >&2; exit 7"], marks=pytest.mark.box),
        pytest.param(["box", "run", "sh", "-c", "echo hi > new; mkdir d; touch d/e; rm old"], marks=pytest.mark.box),
        pytest.param(
            ["box", "run", "--changes-to", "-", "touch", b"b\xff".decode(errors="surrogateescape")],
            marks=pytest.mark.box,
        ),
        pytest.param(["box", "run", "--format", "json", "--changes-to", "-", "rm", "old"], marks=pytest.mark.box),
        pytest.param(["box", "run", "--changes-to", "/gone/list", "true"], marks=pytest.mark.box),
        pytest.param(["box", "run", "--commit", "kept", "--", "touch", "kept"], marks=pytest.mark.box),
        pytest.param(["box", "run", "--commit", ".", "--", "false"], marks=pytest.mark.box),
        pytest.param(["box", "run", "--no-network", "/no/such/program"], marks=pytest.mark.box),
        pytest.param(["box", "run", "--bind", "/no/such/place", "true"], marks=pytest.mark.box),
        pytest.param(["box", "run", ""], marks=pytest.mark.box),
    ],
    ids=lambda words: " ".join(words).encode("ascii", "replace").decode(),
)
def test_short_line_does_and_prints_what_it_does_read_by_click(words: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "old").write_text("old")
    assert find_call(words) is not None
    by_click = ran(BY_CLICK, words, folder)
    (folder / "kept").unlink(missing_ok=True)
    assert ran(SHORT, words, folder) == by_click


@pytest.mark.parametrize(
    "line", ["", "--help", "run", "box", "box run", "box run --help", "box ls --help", "doctor -h"]
)
def test_other_line_is_left_to_click(line: str) -> None:
    assert find_call(line.split()) is None


def test_line_that_a_shell_completes_is_left_to_click(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_JUBAKO_COMPLETE", "bash_complete")
    assert find_call(["box", "ls"]) is None


def test_error_of_a_short_line_shows_its_traceback_on_demand(tmp_path: Path) -> None:
    words = ["box", "run", "sh", "--debug"]
    code, _, printed = ran(SHORT, words, tmp_path, JUBAKO_STATE="relative")
    assert (code, "Traceback" in printed, "JUBAKO_STATE='relative'" in printed) == (2, True, True)
    assert "Traceback" not in ran(SHORT, words[:3], tmp_path, JUBAKO_STATE="relative")[2]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_short_line_with_closed_streams_is_no_error(closed: str, tmp_path: Path) -> None:
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "jubako", "--version"]
    done = subprocess.run(command, capture_output=True, check=False, env=os.environ | {"PYTHONPATH": str(SOURCE)})
    assert (done.returncode, done.stderr) == (0, b"")


def test_short_line_whose_reader_goes_away_ends_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "jubako", "--version"],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_colours_are_for_a_terminal_that_does_not_say_no(tmp_path: Path) -> None:
    line = f"{sys.executable} -m jubako box run --bind /no/such/place true"
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "JUBAKO_STATE": str(tmp_path / "state")}
    environment.pop("NO_COLOR", None)

    def on_a_terminal(**more: str) -> str:
        command = ["script", "--quiet", "--command", line, "/dev/null"]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True, check=False).stdout

    assert on_a_terminal().startswith("\x1b[31m\x1b[1mError:\x1b[0m /no/such/place, which")
    assert on_a_terminal(NO_COLOR="1").startswith("Error: /no/such/place, which")
