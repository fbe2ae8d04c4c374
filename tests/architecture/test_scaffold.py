"""The scripts behind `make`: which Python they take, what they say where there is none, and that they ask nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHELL_TOOLS = ("bash", "dirname", "rm", "env", "tr", "id")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the scripts, and a PATH, `bin`, with nothing but a shell's own tools."""
    shutil.copytree(ROOT / ".ci", tmp_path / "clone/.ci")
    (tmp_path / "bin").mkdir()
    for tool in SHELL_TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path / "clone"


def install(clone: Path, name: str, body: str) -> None:
    program = clone.parent / "bin" / name
    program.write_text(f"#!{shutil.which('bash')}\n{body}\n")
    program.chmod(0o755)


def run(clone: Path, script: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(clone / ".ci" / script)],
        env={"PATH": str(clone.parent / "bin"), "HOME": str(clone.parent), **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_make_venv_takes_the_first_python_that_is_new_enough(clone: Path) -> None:
    install(clone, "python3", '[ "$1" = -c ] && exit 1; echo old >> asked')
    install(clone, "python3.12", '[ "$1" = -c ] && exit 0; echo "$@" >> asked')
    result = run(clone, "make-venv")
    assert (result.returncode, result.stderr) == (0, "")
    assert (clone / "asked").read_text() == "-m venv .venv\n"


def test_make_venv_asked_for_a_python_takes_that(clone: Path) -> None:
    install(clone, "python3", "exit 0")
    install(clone, "my-python", '[ "$1" = -c ] && exit 0; echo mine >> asked')
    assert run(clone, "make-venv", PYTHON="my-python").returncode == 0
    assert (clone / "asked").read_text() == "mine\n"


def test_make_venv_without_a_python_says_what_to_install(clone: Path) -> None:
    result = run(clone, "make-venv")
    assert result.returncode == 3
    assert "Python 3.11" in result.stderr
    assert "python3-venv" in result.stderr
    assert not (clone / ".venv").exists()


def test_make_venv_keeps_a_venv_that_works(clone: Path) -> None:
    (clone / ".venv/bin").mkdir(parents=True)
    python = clone / ".venv/bin/python"
    python.write_text(f"#!{shutil.which('bash')}\nexit 0\n")
    python.chmod(0o755)
    assert run(clone, "make-venv").returncode == 0
    assert python.exists()


def test_system_packages_that_cannot_be_installed_are_named_with_what_is_left_out(clone: Path) -> None:
    result = run(clone, "system-packages")
    assert result.returncode == 0
    assert "podman (publishing in a container)" in result.stderr


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / ".ci").iterdir()))
def test_script_is_executable_and_stops_at_the_first_error(script: str) -> None:
    path = ROOT / ".ci" / script
    assert os.access(path, os.X_OK)
    assert "\nset -eu\n" in path.read_text()


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "bench").glob("*.py")))
def test_bench_starts_and_says_how_it_is_used(script: str) -> None:
    command = [sys.executable, str(ROOT / "bench" / script), "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {script}")
