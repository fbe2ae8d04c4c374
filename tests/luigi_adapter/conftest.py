"""Command lines run through Luigi and through jubako, and what both said, for the tests to compare."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"

Answers = Mapping[str, list[dict[str, Any]]]
RunBoth = Callable[[Mapping[str, Any]], dict[str, Answers]]


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LUIGI", "JUBAKO_STATE"))}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join([str(SOURCE), str(HERE / "pipelines")]),
        "JUBAKO_STATE": str(folder / "state"),
        "HOME": str(folder),
        "TMPDIR": str(folder),  # where locks are: other test runs have the same command lines
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


def drive(folder: Path, words: list[str], cases: Mapping[str, Any], **more: str) -> Answers:
    """What one of the two says to all cases, run one after another in one process."""
    folder.mkdir()
    result = subprocess.run(
        [sys.executable, *words, str(HERE / "driver.py")],
        input=json.dumps({"folder": str(folder / "work"), "cases": cases}),
        env=environment(folder, **more),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    answers: Answers = json.loads((folder / "work" / "answers.json").read_text())
    return answers


@pytest.fixture(scope="module")
def run_both(tmp_path_factory: pytest.TempPathFactory) -> RunBoth:
    """Both answers to the cases, by "theirs" and "ours"."""
    if sys.version_info >= (3, 14):
        pytest.skip("Luigi 3.8.1 is not made for this Python")

    def both(cases: Mapping[str, Any]) -> dict[str, Answers]:
        folder = tmp_path_factory.mktemp("both")
        with ThreadPoolExecutor() as pool:
            theirs = pool.submit(drive, folder / "theirs", [], cases)
            ours = pool.submit(drive, folder / "ours", ["-m", "jubako.luigi"], cases)
            return {"theirs": theirs.result(), "ours": ours.result()}

    return both


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python with these words, in a folder and a state of its own; it has to end well unless told otherwise."""
    home = tmp_path_factory.mktemp("home")

    def run(
        words: list[str], *, input: str = "", cwd: Path = home, fails: bool = False, **more: str
    ) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [sys.executable, *words],
            input=input,
            env=environment(home, **more),
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert fails or result.returncode == 0, result.stdout + result.stderr
        return result

    return run


@pytest.fixture(scope="module")
def luigi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Runs a command line of `jubako luigi`, as `python` would, and sooner: in a fork of one process for all."""
    home = tmp_path_factory.mktemp("home")
    printed = (home / "stdout", home / "stderr")
    command = [sys.executable, "-P", str(HERE / "forks.py")]
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(home), cwd=home, text=True
    )
    orders, codes = server.stdin, server.stdout
    assert orders is not None and codes is not None  # made with pipes

    def run(
        words: list[str], *, cwd: Path = home, fails: bool = False, **more: str
    ) -> subprocess.CompletedProcess[str]:
        for path in printed:
            path.write_bytes(b"")
        order = {"words": words, "cwd": str(cwd), "environment": environment(home, **more)}
        print(json.dumps({**order, "stdout": str(printed[0]), "stderr": str(printed[1])}), file=orders, flush=True)
        code = int(codes.readline())
        result = subprocess.CompletedProcess(words, code, *(path.read_text() for path in printed))
        assert fails or code == 0, result.stdout + result.stderr
        return result

    with server:
        yield run
        orders.close()
    assert server.returncode == 0
