"""Our commands and those of util-linux with the same words, as root or as an ordinary user, for tests to compare."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import click

IS_ROOT = os.geteuid() == 0
NOBODY = 65534
USERS = (0, NOBODY) if IS_ROOT else (os.geteuid(),)
SOURCE = str(Path(__file__).parents[1] / "src")
SYSTEM_PYTHON = "/usr/bin/python3"  # which an ordinary user may read
SETPRIV = shutil.which("setpriv") or "setpriv"

# One Python runs all lines, each in a fork: starting one for each would take most of the time.
RUN_ALL = """
import json, os, sys
from jubako.cli.exits import finish
from jubako.cli.short import find_call

found = []
for words in json.load(sys.stdin):
    out, err = os.memfd_create("out"), os.memfd_create("err")
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        os._exit(finish(find_call(words), debug=False))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    found.append([code, *(os.pread(fd, 1 << 20, 0).decode() for fd in (out, err))])
print(json.dumps(found))
"""


class Ran(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


class User:
    """Who runs commands, all of them in "/" and with the same environment."""

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.python = sys.executable if uid == os.geteuid() else SYSTEM_PYTHON
        path = os.pathsep.join([SOURCE, str(Path(click.__file__).parents[1])])
        self.environment = os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}

    def become(self, words: list[str]) -> list[str]:
        """The words that run `words` as this user."""
        if self.uid == os.geteuid():
            return words
        return [SETPRIV, f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", *words]

    def command(self, line: str) -> list[str]:
        """The words that run a line as this user; "jubako" is this one."""
        words = shlex.split(line)
        if words[0] == "jubako":
            words = [self.python, "-P", "-m", *words]
        return self.become(words)

    def run(self, line: str, **environment: str) -> Ran:
        done = subprocess.run(
            self.command(line),
            cwd="/",
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def start(self, line: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(line),
            cwd="/",
            env=self.environment | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run_all(self, lines: Iterable[str]) -> list[Ran]:
        """What each line of ours does; only lines that are read without click."""
        done = subprocess.run(
            self.become([self.python, "-P", "-c", RUN_ALL]),
            cwd="/",
            env=self.environment,
            input=json.dumps([shlex.split(line)[1:] for line in lines]),
            capture_output=True,
            text=True,
            check=True,
        )
        return [Ran(*one) for one in json.loads(done.stdout)]
