"""Lines are read as getopt(1) reads them, which is the C library's getopt_long."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from jubako.cli.getopt_line import Switch, asks_for, read_switches
from jubako.errors import InputError

SWITCHES = (
    Switch("m", "mount", "mounts", "maybe", "FILE"),
    Switch("", "mount-proc", "proc", "maybe", "DIR"),
    Switch("f", "fork", "fork"),
    Switch("r", "map-root-user", "root"),
    Switch("", "map-user", "user", "value", "UID"),
    Switch("", "map-users", "users", "value", "RANGE"),
    Switch("R", "root", "root", "value", "DIR"),
    Switch("t", "target", "target", "attached", "PID"),
)
LETTERS = "+mfrR:t::"
NAMES = "mount::,mount-proc::,fork,map-root-user,map-user:,map-users:,root:,target::"


def read_by_getopt(words: list[str]) -> tuple[list[str], list[str]] | None:
    done = subprocess.run(
        ["getopt", "-q", "-o", LETTERS, "-l", NAMES, "--", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return None
    all_words = shlex.split(done.stdout)
    end = next(at for at, word in enumerate(all_words) if word == "--" and at >= _values_end(all_words, at))
    return all_words[:end], all_words[end + 1 :]


def _values_end(words: list[str], at: int) -> int:
    """`at`, or one more if that word is the value of the option before."""
    before = words[at - 1] if at else ""
    takes = before in ("-R", "-t", "--mount", "--mount-proc", "--map-user", "--map-users", "--root", "--target")
    return at + 1 if takes else at


@pytest.mark.parametrize(
    "line",
    [
        "true",
        "-m true",
        "-mfr bash -c x",
        "--mount bash",
        "--mount=/f bash",
        "--mount-p bash",
        "--mount-proc=/p -f x",
        "--fo x",
        "--map-r x",
        "--map-user 5 x",
        "--map-user=5 x",
        "--map-u 5 x",
        "--map 5",
        "-R /r x",
        "-R/r x",
        "-fR/r x",
        "-fR /r x",
        "-R",
        "--root",
        "-t5 x",
        "-t 5 x",
        "-ft5 x",
        "--target=5 x",
        "-- -f",
        "-f -- -m x",
        "x -f",
        "- -f",
        "-x",
        "-fx",
        "--no",
        "--fork=x",
        "--root= x",
        "-R -q x",
        "",
    ],
)
def test_line_is_read_as_getopt_reads_it(line: str) -> None:
    expected = read_by_getopt(line.split())
    if expected is None:
        with pytest.raises(InputError):
            read_switches(SWITCHES, line.split())
        return
    given, rest = read_switches(SWITCHES, line.split())
    words: list[str] = []
    for name, value in given:
        switch = next(one for one in SWITCHES if one.name == name)
        words += [f"--{name}"] if switch.takes == "nothing" else [f"--{name}", value or ""]
    letters = {f"-{one.letter}": f"--{one.name}" for one in SWITCHES if one.letter}
    by_name = [letters.get(word, word) for word in expected[0]]
    # getopt(1) prints a letter that may not have a value without one, where the long name has an empty one.
    assert [word for word in words if word] == [word for word in by_name if word]
    assert rest == expected[1]


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("--mount- x", "option --mount- is ambiguous", ""),
        ("--forc x", "there is no option --forc", "Did you mean --fork?"),
        ("--root", "option --root needs a value", "-R, --root DIR: root."),
        ("-q", "there is no option -q", "--help lists the options."),
        ("--fork=1 x", "option --fork takes no value", "Write --fork."),
    ],
)
def test_what_cannot_be_read_is_said_with_a_hint(line: str, message: str, hint: str) -> None:
    switches = (*SWITCHES, Switch("", "mount-binfmt", "binfmt"))
    with pytest.raises(InputError) as caught:
        read_switches(switches, line.split())
    assert caught.value.message == message
    assert hint in caught.value.hint


def test_asking_for_help_counts_in_front_of_the_program_only() -> None:
    switches = (*SWITCHES, Switch("h", "help", "help"))
    assert asks_for(("help",), switches, ["-fh"])
    assert not asks_for(("help",), switches, ["-f", "ls", "--help"])
    assert not asks_for(("help",), switches, ["--nonsense", "--help"])
