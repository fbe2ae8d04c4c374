"""What the documentation shows is true: its Python runs, its commands do what it says, no command is without a page.

A `console` block is a session: it is run in a copy of the examples, line by line, and what it prints must be what the
page shows. A line `...` stands for any number of lines, `...` in a line for any text; numbers with a unit of time or
size may differ, and so may the ids of kept boxes and runs. In a block `console numbers vary` all numbers may.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from jubako.boxes.living.living_box import living_boxes
from jubako.boxes.state import StateRoot
from jubako.cli.main import jubako

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = jubako.list_commands(click.Context(jubako))
# What a run says where the reader's disk keeps less than the disk of the machine the pages were made on, or more.
DISK_NOTE = re.compile(r"^note: what is published on .* survives kill -9 only: .*\n(?:hint: .*\n)?", re.MULTILINE)
# And what an ordinary user is told, and root is not.
USERS_NOTE = re.compile(r"^note: marks of overlays that root mounted .*\n", re.MULTILINE)
QUANTITY = re.compile(r"\b[\d\\.]+\\ (?:ms|s|min|h|B|KB|KiB|MB|MiB|GB|GiB)\b")  # in an escaped text
COMMAND_PAGES = ROOT / "docs" / "commands"


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """What stands after the language, and the block, for each."""
    return re.findall(rf"^```{language}\b(.*?)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def copy_of_examples(tmp_path: Path) -> Iterator[Path]:
    clone = tmp_path / "jubako"
    shutil.copytree(ROOT / "examples", clone / "examples", ignore=shutil.ignore_patterns("out", "__pycache__"))
    yield clone
    state = tmp_path / ".local/state/jubako"
    if state.exists():  # a session that failed half-way has left its boxes running
        for box in living_boxes(StateRoot(str(state))):
            box.remove(force=True)


def environment(home: Path) -> dict[str, str]:
    scripts = str(Path(sys.executable).parent)
    return {
        "PATH": f"{scripts}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "HOME": str(home),
        "COLUMNS": "120",
    }


@pytest.mark.box
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name)
def test_python_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    script = tmp_path / f"{page.stem.lower()}_examples.py"
    script.write_text("\n\n".join(text for _, text in blocks(page, "python")))
    result = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.box
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "console")], ids=name)
def test_sessions_of_the_page_print_what_it_shows(page: Path, copy_of_examples: Path) -> None:
    known: dict[str, str] = {}  # what the page calls something, a kept box say, and what it is called here
    for remark, block in blocks(page, "console"):
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            result = subprocess.run(
                ["bash", "-c", with_known_names(command, known)],
                cwd=copy_of_examples,
                env=environment(copy_of_examples.parent),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=120,
                check=False,
            )
            printed = re.sub(USERS_NOTE, "", re.sub(DISK_NOTE, "", result.stdout))
            learn_names(shown, printed, known)
            pattern = pattern_of(
                with_known_names(shown, known), copy_of_examples, numbers_vary="numbers vary" in remark
            )
            assert re.fullmatch(pattern, printed.strip("\n") + "\n"), (
                f"$ {command}\n{result.stdout}\nis not what {name(page)} shows:\n{shown}"
            )


def with_known_names(text: str, known: dict[str, str]) -> str:
    for shown, real in known.items():
        text = text.replace(shown, real)
    return text


def learn_names(shown: str, real: str, known: dict[str, str]) -> None:
    """Ids of kept boxes and runs are new every time; the line that first names one says which is which."""
    for mark in (
        r"jubako box enter (\S+)",
        r"Kept as ([0-9a-f]{8})\b",
        r"jubako box rm (\S+)",
        r"\b\d{8}T\d{6}-([0-9a-f]{6})\b",
    ):
        for one, other in zip(re.findall(mark, shown), re.findall(mark, real), strict=False):
            known.setdefault(one, other)


def pattern_of(shown: str, folder: Path, *, numbers_vary: bool) -> str:
    """A regular expression for what the page shows."""
    pattern = ""
    for line in shown.strip("\n").split("\n"):
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
            continue
        text = re.escape(line.replace("/home/you/jubako", str(folder)))
        text = re.sub(QUANTITY, r"[\\d.]+ \\w+(?: [\\d.]+ \\w+)?", text)
        if numbers_vary:  # and with them the widths of columns
            text = re.sub(r"(?:\\ )*\d+", r"\\s*\\d+", text)
            text = re.sub(r"(?:\\ ){2,}", r"\\s+", text)
        pattern += text + r"\n"
    return pattern


def commands_of(word: str) -> list[tuple[str, click.Command]]:
    """The command called `word` and all below it, each with its words."""
    command = jubako.get_command(click.Context(jubako), word)
    assert command is not None
    found = [(f"jubako {word}", command)]
    for words, group in found:  # grows while it is walked
        if isinstance(group, click.Group):
            found += [(f"{words} {below}", group.commands[below]) for below in group.commands]
    return found


@pytest.mark.parametrize("word", COMMANDS)
def test_command_has_a_page_that_names_each_of_its_options(word: str) -> None:
    pages = [
        *COMMAND_PAGES.glob(f"{word}.md"),
        *COMMAND_PAGES.glob(f"{word}-*.md"),
    ]  # a group's commands may have their own
    page = "".join(page.read_text() for page in pages)
    for words, command in commands_of(word):
        assert words in page
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert any(option in page for option in parameter.opts), f"{words} {parameter.opts} is not on the page"


@pytest.mark.parametrize("word", COMMANDS)
def test_help_of_a_command_fits_a_screen_and_shows_examples(word: str) -> None:
    for words, command in commands_of(word):
        text = command.get_help(click.Context(command, info_name=words, terminal_width=80))
        assert len(text.splitlines()) <= 56, words
        assert text.count("jubako ", text.index("Example")) >= (2 if words == f"jubako {word}" else 1), words


def test_first_list_of_commands_says_what_each_does() -> None:
    text = jubako.get_help(click.Context(jubako, info_name="jubako"))
    for word in COMMANDS:
        assert re.search(rf"^  {word}  +\S", text, re.MULTILINE)


def test_pages_link_to_what_is_there() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{name(page)} links to {target}"
