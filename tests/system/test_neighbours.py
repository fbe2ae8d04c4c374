"""Files beside a pipeline called like modules that jubako or Python's library imports, early or late: none is taken.
Those called like modules that it does not need are a pipeline's own.

Every file of the first kind ends the process that imports it. What is tried reaches the late imports: tasks that fail,
write undeclared, are checked, time out; an error with its traceback; a display on a terminal.
"""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

pytestmark = pytest.mark.box

SOURCE = Path(__file__).parents[2] / "src"
SYSTEM_PYTHON = "/usr/bin/python3"
USERS = (0, 1000) if os.geteuid() == 0 else (os.geteuid(),)
INSTALLED = ("attr", "click", "IPython", "jubako", "markdown_it", "pygments", "rich", "typing_extensions")

PIPELINE = """
{head}
from jubako import IntParameter, LocalTarget, Task, WrapperTask
from recipes import square


class Square(Task):
    number = IntParameter()
    kind = "good"

    def output(self):
        return LocalTarget(f"out/{{self.get_task_family()}}-{{self.number}}")

    def run(self):
        import late_recipes
        with self.output().open("w") as file:
            file.write(str(late_recipes.same(square(self.number))))

    def check(self):
        with self.output().open() as file:
            return int(file.read()) == self.number * self.number


class Raises(Square):
    def run(self):
        open("stray", "w").close()
        raise ValueError(self.number)


class Hangs(Square):
    worker_timeout = 0.3

    def run(self):
        while True:
            pass


class All(WrapperTask):
    def requires(self):
        return [Square(number=1), Square(number=2), Raises(number=3), Hangs(number=4)]
"""


@pytest.fixture
def folder(user: int) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="jubako-neighbours-", dir="/var/tmp"))
    for name in (*sys.stdlib_module_names, *INSTALLED):
        (folder / f"{name}.py").write_text(f"import os\nos.write(2, b'TAKEN {name}\\n')\nos._exit(99)\n")
    (folder / "recipes.py").write_text("def square(number): return number * number\n")
    (folder / "late_recipes.py").write_text("def same(number): return number\n")
    (folder / "state").mkdir()
    if os.geteuid() == 0:
        for path in (folder, *folder.iterdir()):
            os.chown(path, user, user)
    yield folder
    shutil.rmtree(folder)


def command(user: int, *words: str) -> list[str]:
    if user == os.geteuid():
        return [sys.executable, "-P", "-m", "jubako", *words]
    as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    return [*as_user, SYSTEM_PYTHON, "-P", "-m", "jubako", *words]


def environment(folder: Path) -> dict[str, str]:
    state = str(folder / "state")
    path = os.pathsep.join([str(SOURCE), str(Path(click.__file__).parents[1])])
    return os.environ | {"HOME": str(folder), "JUBAKO_STATE": state, "PYTHONPATH": path}


@pytest.mark.parametrize("user", USERS)
def test_neighbours_named_like_any_module_are_never_taken_by_a_run_on_a_terminal(folder: Path, user: int) -> None:
    (folder / "pipeline.py").write_text(PIPELINE.format(head=""))
    controller, terminal = pty.openpty()
    try:
        process = subprocess.Popen(
            command(user, "run", "pipeline.py", "All", "--debug"),
            cwd=folder,
            env=environment(folder) | {"TERM": "xterm", "COLUMNS": "200"},
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        shown = b"".join(iter(lambda: _read(controller), b"")).decode()
        assert process.wait() == 1, shown
    finally:
        os.close(controller)
    assert_ran(folder, shown)


@pytest.mark.parametrize("user", USERS[:1])
@pytest.mark.parametrize(
    ("head", "options"),
    [
        ("import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()", ["--workers", "1"]),
        ("", ["--box", "none", "--workers", "2"]),
    ],
    ids=["in fresh interpreters", "without boxes"],
)
def test_neighbours_named_like_any_module_are_never_taken_by_a_run(
    folder: Path, user: int, head: str, options: list[str]
) -> None:
    (folder / "pipeline.py").write_text(PIPELINE.format(head=head))
    result = subprocess.run(
        command(user, "run", "pipeline.py", "All", "--debug", *options),
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert_ran(folder, result.stdout + result.stderr)


@pytest.mark.parametrize("user", USERS)
def test_neighbours_named_like_modules_that_nobody_needs_are_taken_by_a_run(user: int) -> None:
    with tempfile.TemporaryDirectory(prefix="jubako-neighbours-", dir="/var/tmp") as name:
        folder = Path(name)
        for path in ("code/__init__.py", "test/__init__.py"):
            (folder / path).parent.mkdir()
            (folder / path).touch()
        (folder / "code/pipe.py").write_text(PIPELINE.format(head="from profile import helper"))
        (folder / "profile.py").write_text("def helper(): return 1\n")
        (folder / "recipes.py").write_text("def square(number): return number * number\n")
        (folder / "late_recipes.py").write_text("from test.data import same\n")
        (folder / "test/data.py").write_text("def same(number): return number\n")
        for path in ("", "code", "test") if os.geteuid() == 0 else ():
            os.chown(folder / path, user, user)
        for options in ([], ["--box", "none", "--workers", "2"]):
            result = subprocess.run(
                command(user, "run", "code/pipe.py", "Square", "--number", str(3 + len(options)), *options),
                cwd=folder,
                env=environment(folder),
                capture_output=True,
                text=True,
                check=False,
            )
            assert result.returncode == 0, result.stdout + result.stderr
        assert {path.name: path.read_text() for path in (folder / "out").iterdir()} == {
            "Square-3": "9",
            "Square-7": "49",
        }


def assert_ran(folder: Path, shown: str) -> None:
    assert "TAKEN" not in shown
    assert (folder / "out/Square-2").exists(), shown
    assert "ValueError: 3" in shown
    assert "longer than 0.3 s" in shown


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # EIO: the last process at the other end has closed it
        return b""
