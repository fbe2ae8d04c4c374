"""`jubako attention show`: what it writes, what it prints, and what it refuses. How pages look is tested elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Said

Say = Callable[..., Said]
SOURCE = Path(__file__).parents[2] / "src"
WRITE = """
import os
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy as np
from jubako.attention import Maps
weights = np.random.default_rng(3).random((2, 3, 4, 4)).astype(np.float32)
weights /= weights.sum(axis=-1, keepdims=True)
Maps(weights, ["a", "b", "c", "d"], title="one").save("maps.npz")
Maps(weights[:, :, ::-1], ["a", "b", "c", "e"], title="other").save("other.npz")
Maps(weights[:1], layers=["encoder.0"]).save("named.npz")
Maps(weights[:, :, :2], title="other").save("smaller.npz")
Maps(np.zeros((1, 1, 300, 2), np.float32)).save("long.npz")
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maps")
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    subprocess.run([sys.executable, "-c", WRITE], cwd=folder, env=environment, check=True)
    return folder


@pytest.fixture
def here(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with files of maps: maps.npz and others."""
    for path in saved.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".npz")


def test_page_is_written_and_its_size_is_told(say: Say, here: Path) -> None:
    said = say("attention", "show", "maps.npz", "-o", "page.html")
    assert said.code == 0
    size = (here / "page.html").stat().st_size / 1000
    assert said.out == f"page.html: 2 layers x 3 heads x 4 queries x 4 keys, {size:.1f} kB\n"
    assert new_in(here) == ["page.html"]
    assert say("attention", "show", "maps.npz", "-o", "page.html", "--layer", "1").out.startswith(
        "page.html: 1 layer x"
    )


def test_second_run_is_shown_with_the_difference(say: Say, here: Path) -> None:
    said = say("attention", "show", "maps.npz", "--diff", "other.npz", "-o", "page.html")
    assert (said.code, said.err) == (0, "")
    assert '"other minus one"' in (here / "page.html").read_text()
    said = say("attention", "show", "maps.npz", "--diff", "other.npz", "--layer", "0", "--head", "1")
    assert said.out.splitlines()[0].startswith("layer 0, head 1: largest ")
    assert "d→e" in said.out
    said = say("attention", "show", "maps.npz", "--diff", "smaller.npz")
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        "Error: maps of 2 layers x 3 heads x 2 queries x 4 keys have no difference to maps of "
        "2 layers x 3 heads x 4 queries x 4 keys\n"
    )


def test_without_a_file_to_write_maps_are_drawn_on_the_terminal(say: Say, here: Path) -> None:
    said = say("attention", "show", "maps.npz")
    assert said.code == 0
    assert [line for line in said.out.splitlines() if line.startswith("layer")] == ["layer 0", "layer 1"]
    assert "\x1b" not in said.out  # it is no terminal
    one = say("attention", "show", "maps.npz", "--layer", "0", "--head", "2").out
    assert [line.split()[0] for line in one.splitlines()] == ["layer", "a", "b", "c", "d"]
    assert say(
        "attention", "show", "maps.npz", "-o", "page.html", "--terminal", "--layer", "0", "--head", "2"
    ).out.endswith(one)


@pytest.mark.parametrize(
    ("variables", "colours"),
    [
        ({"COLORTERM": "truecolor"}, "\x1b[48;2;"),
        ({"TERM": "xterm-256color", "COLORTERM": ""}, "\x1b[48;5;"),
        ({"TERM": "vt100", "COLORTERM": ""}, "█"),
        ({"COLORTERM": "truecolor", "NO_COLOR": "1"}, "█"),
    ],
)
def test_terminal_gets_the_colours_it_has(variables: dict[str, str], colours: str, here: Path) -> None:
    main_end, other = os.openpty()
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": "100", "NO_COLOR": "", **variables}
    line = [sys.executable, "-m", "jubako", "attention", "show", "maps.npz", "--layer", "0", "--head", "0"]
    done = subprocess.run(line, env=environment, stdin=subprocess.DEVNULL, stdout=other, stderr=subprocess.PIPE)
    os.close(other)
    printed = os.read(main_end, 1 << 16).decode()
    os.close(main_end)
    assert (done.returncode, done.stderr) == (0, b"")
    assert colours in printed
    assert ("\x1b" in printed) == (colours != "█")


def test_images_are_a_new_directory(say: Say, here: Path) -> None:
    said = say("attention", "show", "maps.npz", "--png", "images", "--theme", "dark", "--scale", "log")
    assert (said.code, said.out) == (0, "images: 8 images\n")
    names = [f"layer-0{layer}-{of}.png" for layer in (0, 1) for of in ("head-00", "head-01", "head-02", "mean")]
    assert sorted(os.listdir("images")) == names
    again = say("attention", "show", "maps.npz", "--png", "images")
    assert (again.code, again.out) == (2, "")
    assert again.err.startswith(f"Error: {here}/images is there already and no empty directory\n")
    os.mkdir("empty")
    assert say("attention", "show", "named.npz", "--head", "2", "--png", "empty").out == "empty: 1 images\n"
    assert os.listdir("empty") == ["layer-00-head-02.png"]
    assert new_in(here) == ["empty", "images"]


def test_figure_is_of_one_map(say: Say, here: Path) -> None:
    said = say("attention", "show", "maps.npz", "--layer", "1", "--svg", "figure.svg")
    assert (said.code, said.err) == (0, "")
    assert "one · layer 1, mean of heads" in (here / "figure.svg").read_text()
    say("attention", "show", "maps.npz", "--layer", "1", "--head", "2", "--svg", "figure.svg")
    assert "one · layer 1, head 2" in (here / "figure.svg").read_text()
    said = say("attention", "show", "maps.npz", "--svg", "other.svg")
    assert (said.code, said.err) == (
        2,
        "Error: --svg shows one map, and there are 2 layers\nhint: choose one with --layer\n",
    )
    said = say("attention", "show", "named.npz", "--head", "1", "--head", "2", "--svg", "other.svg")
    assert (said.code, said.err.splitlines()[0]) == (2, "Error: --svg shows one map, and 2 heads are chosen")
    said = say("attention", "show", "long.npz", "--svg", "other.svg", "-o", "page.html")
    assert said.code == 2
    assert "Error: a map of 300 x 2 cells is too large for SVG, which has up to 256 x 256" in said.err
    assert new_in(here) == ["figure.svg", "page.html"]


def test_layers_are_chosen_by_name_or_number(say: Say, here: Path) -> None:
    for name in ("encoder.0", "0"):
        assert say("attention", "show", "named.npz", "--layer", name).out.startswith("encoder.0\n")
    said = say("attention", "show", "maps.npz", "--layer", "7")
    assert (said.code, said.err) == (2, "Error: there is no layer '7'; there is 0, 1\n")
    said = say("attention", "show", "maps.npz", "--head", "x\x1b")
    assert (said.code, said.err) == (2, "Error: there is no head 'x\\x1b'; there is 0, 1, 2\n")


def test_what_is_no_file_of_maps_or_cannot_be_written_is_a_sentence(say: Say, here: Path) -> None:
    said = say("attention", "show", "none.npz")
    assert (said.code, said.err) == (2, "Error: none.npz cannot be read: No such file or directory\n")
    (here / "text.txt").write_text("text")
    said = say("attention", "show", "text.txt")
    assert (said.code, said.err.splitlines()[0]) == (2, "Error: text.txt is no file of maps: File is not a zip file")
    said = say("attention", "show", "maps.npz", "-o", "text.txt")
    assert (said.code, said.err.splitlines()[0]) == (
        2,
        "Error: text.txt is there already and no page of maps, so it is not replaced",
    )
    said = say("attention", "show", "maps.npz", "-o", "none/page.html")
    assert (said.code, said.err.splitlines()[0]) == (
        3,
        "Error: none/page.html cannot be written: No such file or directory",
    )
    assert (here / "text.txt").read_text() == "text"
    assert new_in(here) == ["text.txt"]


def test_page_is_not_there_where_the_disk_is_full(here: Path) -> None:
    script = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); from jubako.__main__ import start; start()"
    )
    line = [sys.executable, "-B", "-c", script, "attention", "show", "maps.npz", "-o", "page.html"]
    done = subprocess.run(line, env=os.environ | {"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines()[0] == "Error: page.html cannot be written: File too large"
    assert new_in(here) == []
    assert not [name for name in os.listdir(here) if name.startswith(".")]


def test_reader_that_goes_away_is_no_defect(here: Path) -> None:
    script = "import os; os.close(0); from jubako.__main__ import start; start()"
    reader, writer = os.pipe()
    os.close(reader)
    line = [sys.executable, "-c", script, "attention", "show", "maps.npz"]
    done = subprocess.run(
        line, env=os.environ | {"PYTHONPATH": str(SOURCE)}, stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_without_numpy_it_says_what_to_install(here: Path) -> None:
    script = "import sys; sys.modules['numpy'] = None; from jubako.__main__ import start; start()"
    line = [sys.executable, "-c", script, "attention", "show", "maps.npz"]
    done = subprocess.run(line, env=os.environ | {"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        3,
        "Error: this needs numpy, which is not installed\nhint: pip install 'jubako[attention]'\n",
    )


@pytest.mark.parametrize("line", [["attention", "show", "maps.npz"], ["attention", "show", "maps.npz", "-o", "x.html"]])
def test_maps_are_shown_without_torch(line: list[str], here: Path) -> None:
    script = "import sys; sys.modules['torch'] = None; from jubako.__main__ import start; start()"
    done = subprocess.run(
        [sys.executable, "-c", script, *line], env=os.environ | {"PYTHONPATH": str(SOURCE)}, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
