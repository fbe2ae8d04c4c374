"""`jubako doctor` as a user runs it."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.kernel.idmap import enter_user_namespace

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box
SOURCE = str(Path(__file__).parents[2] / "src")


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return jubako("doctor", *arguments, **environment)


def jubako(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jubako", *arguments],
        env={**os.environ, "PYTHONPATH": SOURCE, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_doctor_on_a_host_with_boxes_says_so_and_succeeds() -> None:
    result = doctor()
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("yes      boxes")
    assert "\x1b" not in result.stdout


def test_doctor_shows_a_cure_below_what_is_missing(tmp_path: Path) -> None:
    result = doctor(TMPDIR=str(tmp_path), JUBAKO_STATE="/dev/shm/jubako-state-of-tests")
    lines = result.stdout.splitlines()
    (at,) = (number for number, line in enumerate(lines) if "durability of /dev/shm" in line)
    assert lines[at].startswith("limited")
    assert lines[at + 1].strip().startswith("why: ")
    assert lines[at + 2].strip().startswith("cure: put outputs and state on a local disk")
    assert not Path("/dev/shm/jubako-state-of-tests").exists()


def test_doctor_for_programs_has_the_same_rows_in_each_format() -> None:
    document = json.loads(doctor("--format", "json").stdout)
    rows = list(csv.DictReader(io.StringIO(doctor("--format", "csv").stdout)))
    assert (document["schema"], document["boxes"]) == ("jubako.doctor/1", True)
    assert json.loads(doctor("--json").stdout).keys() == document.keys()
    assert [row["ability"] for row in document["abilities"]] == [row["ability"] for row in rows]
    assert list(rows[0]) == ["about", "ability", "here", "meaning", "why", "cure"]


def test_doctor_asked_for_two_formats_refuses_both_by_name() -> None:
    result = doctor("--json", "--format", "csv")
    assert (result.returncode, result.stdout) == (2, "")
    assert "--json and --format csv contradict each other" in result.stderr


def test_doctor_inside_a_box_says_which_and_what_holds_there(tmp_path: Path) -> None:
    done = jubako("box", "run", "--", sys.executable, "-m", "jubako", "doctor", "--json", JUBAKO_STATE=str(tmp_path))
    document = json.loads(done.stdout)
    found = {row["ability"]: row for row in document["abilities"]}
    assert (done.returncode, document["boxes"], document["container"]) == (3, False, "box")
    assert "boxes do not nest" in found["boxes"]["meaning"]
    assert "system call filter" in found["box"]["meaning"]
    assert found["seccomp"]["here"] == "yes"
    assert "state folder" not in found


def test_doctor_where_boxes_do_not_work_exits_with_3_and_the_cure(in_child: Runner) -> None:
    def examine() -> tuple[int, str]:
        enter_user_namespace()
        for kind in ("user", "mnt"):
            Path(f"/proc/sys/user/max_{kind}_namespaces").write_text("0")
        result = doctor()
        return result.returncode, result.stdout

    status, shown = in_child(examine)
    first, _why, cure, *_ = shown.splitlines()
    assert status == 3
    assert first.startswith("no       boxes")
    assert "user.max_user_namespaces=0" in first
    assert cure.strip() == "cure: as root: sysctl -w user.max_user_namespaces=15000"
