"""The file that runs add to: whole at every moment, nobody's else, and right however many write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jubako
from jubako.errors import HostError, InputError
from jubako.flow.metrics.file import FIRST_LINE, add_to_file, check_file, read_text
from jubako.flow.metrics.samples import Samples


def one_run() -> Samples:
    samples = Samples()
    samples.count("jubako_runs_total", pipeline="p", outcome="success")
    return samples


def test_file_is_added_to_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "jubako.prom"
    add_to_file(str(path), one_run())
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()  # whoever collects is somebody else
    path.chmod(0o640)
    add_to_file(str(path), one_run())
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.read_text() == (
        f"{FIRST_LINE}"
        "# HELP jubako_runs_total Runs that have ended, by how.\n"
        "# TYPE jubako_runs_total counter\n"
        'jubako_runs_total{outcome="success",pipeline="p"} 2\n'
    )
    assert os.listdir(tmp_path) == ["jubako.prom"]


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_link_to_a_file_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.prom").symlink_to(tmp_path / "real/jubako.prom")
    add_to_file(str(tmp_path / "link.prom"), one_run())
    assert (tmp_path / "link.prom").is_symlink()
    assert "} 1\n" in (tmp_path / "real/jubako.prom").read_text()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"node_load1 0.5\n", "its first line is not jubako's"),
        (b"\xff\xfe", "it is not text"),
        (FIRST_LINE.encode() + b"node_load1 0.5\n", "line 2 is no sample of jubako's"),
    ],
)
def test_file_that_is_something_else_is_refused_and_left_alone(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "other.prom"
    path.write_bytes(content)
    for use in (lambda: check_file(str(path)), lambda: add_to_file(str(path), one_run())):
        with pytest.raises(InputError) as refused:
            use()
        assert refused.value.message == f"{path} holds no metrics of jubako: {why}"
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["other.prom"]


def test_empty_file_is_begun(tmp_path: Path) -> None:
    path = tmp_path / "jubako.prom"
    path.touch()
    add_to_file(str(path), one_run())
    assert read_text(str(path)).endswith("} 1\n")
    assert read_text(str(tmp_path / "nowhere")) == ""


def test_place_that_cannot_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        check_file(str(tmp_path))
    with pytest.raises(HostError, match=r"the folder .*/no is not there"):
        check_file(str(tmp_path / "no/jubako.prom"))


def test_nothing_is_left_aside_where_it_cannot_take_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_old: str, _new: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        add_to_file(str(tmp_path / "jubako.prom"), one_run())
    assert os.listdir(tmp_path) == []


def test_processes_that_add_at_once_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from jubako.flow.metrics.file import add_to_file\n"
        "from jubako.flow.metrics.samples import Samples\n"
        "for _ in range(40):\n"
        "    samples = Samples(); samples.count('jubako_runs_total'); add_to_file(sys.argv[1], samples)"
    )
    environ = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(jubako.__file__))}
    path = str(tmp_path / "jubako.prom")
    running = [subprocess.Popen([sys.executable, "-c", code, path], env=environ) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert read_text(path).endswith("jubako_runs_total 120\n")
