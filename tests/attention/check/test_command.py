"""`jubako attention check`: what it prints in each format, its exit codes, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from jubako.cli.main import main


class Said(NamedTuple):
    code: int
    out: str
    err: str


Say = Callable[..., Said]

LAYER = """
import torch

torch.manual_seed(0)
layer = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()
number = 3

def with_inputs():
    return layer, torch.ones(1, 3, 8)

def causal():
    return layer, (torch.randn(2, 5, 8),), {"is_causal": True}

def failing():
    raise ValueError("no layer today")
"""


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    def run(*words: str) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["attention", "check", *words])
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, said.out, said.err)

    return run


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(0)
    module = torch.nn.MultiheadAttention(8, 2)
    save_file(module.state_dict(), tmp_path / "layer.safetensors")
    return str(tmp_path / "layer.safetensors")


@pytest.fixture
def python(tmp_path: Path) -> str:
    (tmp_path / "layers.py").write_text(LAYER)
    return str(tmp_path / "layers.py")


def test_file_is_checked_and_shown_step_by_step(say: Say, weights: str) -> None:
    said = say(weights, "--heads", "2", "--length", "3")
    assert said.code == 0
    assert "  computed by NumPy in float32\n    STEP " in said.out
    assert "    context           (B=2, H=2, L=3, D=4)  within bound  " in said.out
    assert said.out.splitlines()[-1] == "1 layer checked: every step that was observed agrees within its bound"


def test_json_has_each_step_with_both_comparisons(say: Say, weights: str) -> None:
    told = json.loads(say(weights, "--heads", "2", "--format", "json").out)
    assert (told["schema"], told["agrees"], len(told["steps"])) == ("jubako.attention.check/1", True, 13)
    output = next(step for step in told["steps"] if step["step"] == "output")
    assert output["verdict"] == "within_bound"
    assert output["shape"] == [2, 16, 8]
    for comparison in ("isolated", "cumulative"):
        assert 0 < output[comparison]["error"] <= output[comparison]["bound"]
        assert 0 < output[comparison]["used"] <= 1
    assert told["layers"][0]["bounds"]["scores"].startswith("sums of D=4 products")


def test_csv_has_a_row_for_each_step(say: Say, weights: str) -> None:
    lines = say(weights, "--heads", "2", "--format", "csv").out.splitlines()
    assert lines[0].startswith("layer,run,step,shape,verdict,")
    assert len(lines) == 14


def test_module_of_a_python_file_is_checked_all_its_ways(say: Say, python: str) -> None:
    said = say(f"{python}:layer", "--batch", "1", "--length", "4", "--seed", "5")
    assert said.code == 0
    assert "drawn with seed 5" in said.out
    assert "  fast path, need_weights=False\n" in said.out
    assert say(f"{python}:with_inputs").code == 0


def test_departing_module_is_told_with_place_and_trap_and_makes_exit_code_1(
    say: Say, python: str, tmp_path: Path
) -> None:
    said = say(f"{python}:causal", "--junit", str(tmp_path / "report.xml"))
    assert said.code == 1
    assert "TRAP: causal hint dropped" in said.out
    assert "first departure: output departs at batch 0, row 0, feature 0: " in said.out
    assert said.out.splitlines()[-1] == "1 layer checked, 1 WRONG: MultiheadAttention"
    suites = ElementTree.parse(tmp_path / "report.xml").getroot()
    assert suites.tag == "testsuites"
    cases = suites.findall("testsuite/testcase")
    assert int(suites.get("tests", "")) == len(cases)
    assert int(suites.get("failures", "")) == len([case for case in cases if case.find("failure") is not None]) > 1
    assert int(suites.get("skipped", "")) == len([case for case in cases if case.find("skipped") is not None]) > 3
    told = json.loads(say(f"{python}:causal", "--format", "json").out)["layers"][0]
    assert told["first_departure"]["step"] == "output"
    assert (told["first_departure"]["batch"], told["first_departure"]["row"]) == (0, 0)
    assert told["traps"][0]["name"] == "causal_hint_dropped"


def test_report_replaces_a_report_and_nothing_else(say: Say, weights: str, tmp_path: Path) -> None:
    before = Path(weights).read_bytes()
    said = say(weights, "--heads", "2", "--junit", weights)
    assert (said.code, Path(weights).read_bytes()) == (2, before)
    assert "is there already and no report in JUnit XML of attention" in said.err
    for length in ("3", "4"):
        assert say(weights, "--heads", "2", "--length", length, "--junit", str(tmp_path / "report.xml")).code == 0
    assert ElementTree.parse(tmp_path / "report.xml").getroot().tag == "testsuites"


def test_inputs_of_a_module_come_from_a_file(say: Say, python: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", query=np.ones((1, 3, 8)), attn_mask=np.triu(np.ones((3, 3), bool), 1))
    said = say(f"{python}:layer", "--inputs", str(tmp_path / "x.npz"))
    assert said.code == 0
    assert "B=1, L=3, S=3" in said.out
    assert "attention mask bool" in said.out


def test_tolerance_replaces_the_bounds(say: Say, weights: str) -> None:
    assert say(weights, "--heads", "2", "--absolute", "1e-4").code == 0
    said = say(weights, "--heads", "2", "--relative", "0")
    assert said.code == 1
    assert "note: the bounds were replaced by a tolerance: exact" in said.out


REFUSED = [
    ("{folder}/none.safetensors", "No such file or directory"),
    ("{folder}/README.md:x", "README.md:x is no file, and a subject with a colon has to be FILE.py:NAME."),
    ("{folder}", "has neither model.safetensors nor model.safetensors.index.json"),
    ("{folder}/layers.py", "needs the name of a module in it"),
    ("{folder}/layers.py:", "needs the name of a module in it"),
    ("{folder}/layers.py:nothing", "has nothing called 'nothing'"),
    ("{folder}/layers.py:number", "is no module of torch's, nor a function that returns one"),
    ("{folder}/layers.py:failing", "failing() raises ValueError: no layer today"),
    ("{folder}/layers.py:layer --heads 2 --torch", "--heads, --torch is for files of weights"),
    ("{folder}/layer.safetensors --layer x", "has 'x' in its name"),
    ("{folder}/layer.safetensors --heads 2 --seed -1", "Invalid value for '--seed'"),
    ("{folder}/layer.safetensors --heads 2 --seed 9223372036854775808", "Invalid value for '--seed'"),
    ("{folder}/layer.safetensors --map {folder}/none.toml", "No such file or directory"),
    ("{folder}/layers.py:with_inputs --inputs {folder}/layers.py", "holds no arrays"),
]


@pytest.mark.parametrize(("line", "sentence"), REFUSED)
def test_what_cannot_be_checked_is_refused_in_a_sentence(
    line: str, sentence: str, say: Say, weights: str, python: str, tmp_path: Path
) -> None:
    said = say(*line.format(folder=tmp_path).split())
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("Error: ")
    assert sentence in said.err


# --- without libraries -----------------------------------------------------------------------------------------------

WITHOUT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.partition(".")[0])
sys.meta_path.insert(0, Refuse())
{code}
"""


def run_without(missing: set[str], code: str, *words: str) -> Said:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(missing=missing, code=code), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


COMMAND = "from jubako.cli.main import main; main(['attention', 'check', *sys.argv[1:]])"
OTHERS = {"torch", "transformers", "safetensors", "pyarrow"}


def test_file_is_checked_without_torch(weights: str) -> None:
    said = run_without(OTHERS, COMMAND, weights, "--heads", "2")
    assert (said.code, said.err) == (0, "")
    assert "1 layer checked" in said.out


def test_reference_works_without_torch() -> None:
    code = """
import numpy as np
from jubako.attention import Settings, Weights, attend
x = np.ones((1, 2, 4))
print(attend(x, x, x, Weights(*np.ones((4, 4, 4))), Settings(2)).output.shape)
"""
    assert run_without(OTHERS, code).out == "(1, 2, 4)\n"


def test_module_without_torch_says_what_to_install(python: str) -> None:
    said = run_without(OTHERS, COMMAND, f"{python}:layer")
    assert said.code == 3
    assert "Error: this needs torch, which is not installed\nhint: pip install 'jubako[torch]'" in said.err


def test_module_without_anything_says_once_all_that_is_to_be_installed(python: str) -> None:
    said = run_without(OTHERS | {"numpy"}, COMMAND, f"{python}:layer")
    assert said.code == 3
    assert "Error: this needs numpy and torch, which are not installed\nhint: pip install 'jubako[torch]'" in said.err


def test_file_of_which_the_name_has_a_colon_is_a_file(say: Say, weights: str, tmp_path: Path) -> None:
    Path(weights).rename(tmp_path / "a:b")
    assert say(str(tmp_path / "a:b"), "--heads", "2").code == 0


def test_file_without_numpy_says_what_to_install(weights: str) -> None:
    said = run_without(OTHERS | {"numpy"}, COMMAND, weights, "--heads", "2")
    assert said.code == 3
    assert "Error: this needs numpy, which is not installed\nhint: pip install 'jubako[attention]'" in said.err


def test_importing_the_package_imports_neither_numpy_nor_torch() -> None:
    code = "import jubako.attention; print(sorted({'numpy', 'torch'} & sys.modules.keys()), *jubako.attention.__all__)"
    said = run_without(set(), code)
    assert said.out.startswith("[] ")
    assert "assert_attention_matches" in said.out.split()


def test_names_of_the_package_are_there_and_documented() -> None:
    import jubako.attention

    for name in jubako.attention.__all__:
        assert getattr(jubako.attention, name).__doc__, f"{name} has no docstring"
    assert dir(jubako.attention) == sorted(jubako.attention.__all__)
    with pytest.raises(AttributeError, match="no attribute 'chek'"):
        jubako.attention.chek  # noqa: B018


@pytest.mark.parametrize(
    ("missing", "lacks", "has"), [("torch", "MultiheadAttention", "attend"), ("numpy", "attend", "check")]
)
def test_star_gives_all_that_can_be_had(missing: str, lacks: str, has: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "if 'numpy' in sys.modules: sys.modules['torch'] = None\n"
        "from jubako.attention import *\n"
        f"print({lacks!r} in globals(), {has!r} in globals(), 'CheckOptions' in globals())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False True True\n", "")


def test_star_gives_everything_where_all_is_installed() -> None:
    code = "from jubako.attention import *\nimport jubako.attention as a\nprint(set(dir(a)) <= set(globals()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")


PRINTS = """
import os, sys
import torch
from sys import stdout

print("while it loads")

def noisy():
    print("while it is made")
    os.write(1, b"past Python\\n")
    stdout.write("through a name of its own\\n")
    layer = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()
    layer.register_forward_hook(lambda *_: print("while it runs"))
    return layer, torch.ones(1, 3, 8)
"""


@pytest.mark.parametrize("format_", ["json", "csv", "yaml"])
def test_what_a_file_prints_does_not_come_between_the_report(format_: str, tmp_path: Path) -> None:
    (tmp_path / "prints.py").write_text(PRINTS)
    words = [sys.executable, "-m", "jubako", "attention", "check", f"{tmp_path}/prints.py:noisy"]
    done = subprocess.run([*words, "--format", format_], capture_output=True, text=True, check=True)
    assert not any(said in done.stdout for said in ("while", "past Python", "through a name"))
    assert all(done.stderr.count(said) for said in ("while it loads", "past Python", "through a name", "while it runs"))
    if format_ == "json":
        assert json.loads(done.stdout)["agrees"] is True
    plain = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert all(said in plain for said in ("while it loads\n", "past Python\n", "through a name", "while it runs\n"))


def test_report_in_junit_is_whole_whatever_a_file_prints(tmp_path: Path) -> None:
    (tmp_path / "prints.py").write_text(PRINTS)
    words = [sys.executable, "-m", "jubako", "attention", "check", f"{tmp_path}/prints.py:noisy"]
    done = subprocess.run([*words, "--junit", str(tmp_path / "report.xml")], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("MultiheadAttention: ")
    assert ElementTree.parse(tmp_path / "report.xml").getroot().get("failures") == "0"


LIVE = """
import torch

def nan():
    encoder = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), 2).eval()
    with torch.no_grad():
        encoder.layers[0].linear1.weight[0, 0] = float("nan")
    return encoder, torch.ones(1, 3, 8)

def raising():
    return torch.nn.TransformerEncoderLayer(8, 2, 8, batch_first=True).eval(), torch.ones(1, 3, 7)

def large():
    return torch.nn.TransformerEncoderLayer(8, 2, 8, batch_first=True).eval(), torch.ones(1, 300000, 8)

def hint():
    layer = torch.nn.TransformerEncoderLayer(8, 2, 8, batch_first=True).eval()
    return layer, (torch.ones(1, 3, 8),), {"is_causal": True}

def empty():
    return torch.nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.ones(2, 0, 8)

def uncalled():
    model = torch.nn.Sequential(torch.nn.Linear(8, 8))
    model[0].spare = torch.nn.MultiheadAttention(8, 2)
    return model, torch.ones(1, 8)
"""


@pytest.mark.parametrize(
    ("name", "code", "sentence"),
    [
        ("nan", 1, "that came first from layers.0.linear1 (Linear, whose weight holds nan)"),
        ("raising", 2, "Error: the model raises AssertionError: was expecting embedding dimension of 8, but got 7"),
        ("large", 3, "Error: re-deriving B=1, H=2, L=300000, S=300000 takes "),
        ("hint", 1, "TRAP: causal hint dropped: is_causal was given and dropped"),
        ("empty", 1, "no layer was checked; nothing to compare in MultiheadAttention"),
        ("uncalled", 1, "no layer was checked; 1 not checked"),
    ],
)
def test_exit_code_of_live_models(say: Say, tmp_path: Path, name: str, code: int, sentence: str) -> None:
    (tmp_path / "live.py").write_text(LIVE)
    said = say(f"{tmp_path}/live.py:{name}")
    assert (said.code, sentence in said.out + said.err) == (code, True), said


def test_names_of_tensors_that_are_cut_show_that(say: Say, tmp_path: Path) -> None:
    names = ["block.0.layer.0.SelfAttention.of.a.longer.name.relative_attention_bias.weight", "x" * 200]
    save_file({name: torch.ones(2, 2) for name in names}, tmp_path / "own.safetensors")
    said = say(str(tmp_path / "own.safetensors"))
    assert said.code == 2
    assert "relative_attention_bias.weight" in said.err
    assert "x" * 97 + "..." in said.err
    assert "x" * 98 not in said.err


def test_report_that_cannot_be_written_is_said_before_the_work(say: Say, tmp_path: Path) -> None:
    (tmp_path / "layers.py").write_text(f"def make():\n    open({str(tmp_path / 'called')!r}, 'w')\n")
    said = say(f"{tmp_path}/layers.py:make", "--junit", str(tmp_path / "none" / "report.xml"))
    assert (said.code, said.out) == (3, "")
    assert "report.xml cannot be written: No such file or directory" in said.err
    assert not (tmp_path / "called").exists()


def test_report_whose_place_went_away_is_printed_still(say: Say, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    (tmp_path / "layers.py").write_text(
        f"{LAYER}\n\ndef make():\n    __import__('os').rmdir({str(tmp_path / 'gone')!r})\n    return layer\n"
    )
    said = say(f"{tmp_path}/layers.py:make", "--junit", str(tmp_path / "gone" / "report.xml"))
    assert said.code == 3
    assert "every step that was observed agrees" in said.out
    assert "report.xml cannot be written: " in said.err


def test_report_in_junit_goes_to_a_file_alone(say: Say, weights: str) -> None:
    said = say(weights, "--heads", "2", "--junit", "-")
    assert said.code == 2
    assert "--junit needs the name of a file" in said.err
