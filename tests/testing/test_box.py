"""The pytest fixture `box`, in runs of pytest as users have them, and the examples of its page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytestmark = pytest.mark.box
ROOT = Path(__file__).parents[2]
LESSER_KERNEL = ROOT / "tests" / "lesser_kernel.py"


def run_pytest(folder: Path, text: str, *options: str, first: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(text)
    return subprocess.run(
        [*first, sys.executable, "-m", "pytest", "-p", "jubako.pytest_plugin", "-p", "no:cacheprovider", "-W", "error"]
        + ["--rootdir", str(folder), "-rs", *options],
        cwd=folder,
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT / "src"),
            "JUBAKO_STATE": str(folder / "state"),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def passed(done: subprocess.CompletedProcess[str]) -> int:
    found = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0 and found, done.stdout + done.stderr
    return int(found[1])


def test_plugin_is_installed_with_jubako() -> None:
    names = {entry.name: entry.value for entry in entry_points(group="pytest11")}
    assert names.get("jubako") == "jubako.pytest_plugin", "make .venv/installed-dev"


def test_plugin_imports_nothing_of_jubako_before_a_test_asks_for_a_box() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import jubako.pytest_plugin; print(*set(sys.modules) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == {"jubako", "jubako._version", "jubako.pytest_plugin"}


def test_examples_of_the_page_pass(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    blocks = [block for block in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if "def test_" in block]
    assert passed(run_pytest(tmp_path, "\n\n".join(blocks))) == len(blocks) == 2


def test_each_test_has_a_box_of_its_own_and_nothing_is_left(tmp_path: Path) -> None:
    text = """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_fresh(box, number):
    assert box.changed == {}
    done = box.run(["sh", "-c", "cat; echo no >&2; echo x > made"], input="given")
    assert (done.exit_status, done.output, done.errors) == (0, "given", "no\\n")
    assert len(box.changed) == 1

def test_failing(box):
    assert box.run(["/nowhere/x"]).exit_status == 127
    assert "cannot run '/nowhere/x'" in box.run(["/nowhere/x"]).errors
    box.call(lambda: print("printed inside"))
    assert False
"""
    done = run_pytest(tmp_path, text)
    assert "1 failed, 3 passed" in done.stdout, done.stdout
    assert "printed inside" in done.stdout
    assert set(os.listdir(tmp_path)) <= {"__pycache__", "state", "test_it.py"}
    assert os.listdir(tmp_path / "state" / "boxes") == []


@pytest.mark.parametrize("optional", [False, True])
def test_where_boxes_cannot_be_made_tests_fail_or_are_skipped_with_the_reason(tmp_path: Path, optional: bool) -> None:
    lesser = (sys.executable, "-P", str(LESSER_KERNEL), "overlay")
    options = ("-o", "box_optional=true") if optional else ()
    done = run_pytest(tmp_path, "def test_it(box): pass\n", *options, first=lesser)
    assert ("1 skipped" if optional else "1 error") in done.stdout, done.stdout
    reason = "no box can be made here: this kernel has no overlay file system. load it with 'modprobe overlay', as root"
    assert reason in " ".join(done.stdout.split())
    assert "Traceback" not in done.stdout
