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
    return subprocess.run(
        [sys.executable, "-m", "jubako", "doctor", *arguments],
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
    assert lines[at + 1].strip().startswith("cure: put outputs and state on a local disk")
    assert not Path("/dev/shm/jubako-state-of-tests").exists()


def test_doctor_for_programs_has_the_same_rows_in_each_format() -> None:
    document = json.loads(doctor("--format", "json").stdout)
    rows = list(csv.DictReader(io.StringIO(doctor("--format", "csv").stdout)))
    assert (document["schema"], document["boxes"]) == ("jubako.doctor/1", True)
    assert [row["ability"] for row in document["abilities"]] == [row["ability"] for row in rows]
    assert set(rows[0]) == {"ability", "here", "meaning", "cure"}


def test_doctor_where_boxes_do_not_work_exits_with_3_and_the_cure(in_child: Runner) -> None:
    def examine() -> tuple[int, str]:
        enter_user_namespace()
        for kind in ("user", "mnt"):
            Path(f"/proc/sys/user/max_{kind}_namespaces").write_text("0")
        result = doctor()
        return result.returncode, result.stdout

    status, shown = in_child(examine)
    first, cure, *_ = shown.splitlines()
    assert status == 3
    assert first.startswith("no       boxes")
    assert "user.max_user_namespaces=0" in first
    assert cure.strip() == "cure: as root: sysctl -w user.max_user_namespaces=15000"
