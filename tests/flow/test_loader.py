"""Finding and importing a pipeline: a file, a folder, a module; and every way it can be wrong.

Each test uses names of its own for its files: an import is remembered by the process the tests share.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jubako.errors import InputError
from jubako.flow.loader import find_pipeline, load_pipeline

TASK = """
from jubako.flow.parameters import DateParameter
from jubako.flow.tasks.task import Task

class DailySummary(Task):
    date = DateParameter()

class _Hidden(Task):
    pass
"""


@pytest.fixture(autouse=True)
def restored_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(path: Path, text: str = TASK) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def refusal(text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        load_pipeline(text)
    assert "\n" not in caught.value.message
    return caught.value


def test_load_pipeline_file_has_its_tasks_and_nothing_else(tmp_path: Path) -> None:
    pipeline = load_pipeline(write(tmp_path / "plain_tasks.py"))
    assert list(pipeline.tasks) == ["DailySummary"]
    assert pipeline.file == str(tmp_path / "plain_tasks.py")


def test_load_pipeline_file_can_import_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "neighbour_of_main.py", "VALUE = 7\n")
    file = write(tmp_path / "with_neighbour.py", "from neighbour_of_main import VALUE\n" + TASK)
    assert load_pipeline(file).get_task("DailySummary").__module__ == "with_neighbour"


def test_load_pipeline_neighbours_named_like_modules_that_jubako_needs_are_out_of_reach(tmp_path: Path) -> None:
    write(tmp_path / "json/recipes.py", "VALUE = 7\n")
    first = refusal(write(tmp_path / "imports_this.py", "from string import VALUE\n" + TASK))
    assert first.hint == "nothing was run; --debug shows the traceback"  # there is no string.py beside it
    write(tmp_path / "string.py", "VALUE = 7\n")
    for number, line in enumerate(("from string import VALUE", "import string\nstring.VALUE")):
        error = refusal(write(tmp_path / f"imports_string_{number}.py", f"{line}\n" + TASK))
        assert error.hint == (
            f"string is Python's own module, which jubako needs, not {tmp_path}/string.py: call that differently"
        )
    error = refusal(write(tmp_path / "imports_json.py", "import json.recipes\n" + TASK))
    assert error.hint == f"json is Python's own module, which jubako needs, not {tmp_path}/json: call that differently"


def test_load_pipeline_neighbours_named_like_other_modules_of_python_come_first(tmp_path: Path) -> None:
    write(tmp_path / "code/__init__.py", "")
    write(
        tmp_path / "code/imap.py", "from profile import VALUE\nimport test.recipes\n" + TASK
    )  # also names of Python's
    write(tmp_path / "profile.py", "VALUE = 7\n")
    for name in ("__init__", "recipes"):
        write(tmp_path / f"test/{name}.py", "VALUE = 7\n")
    write(tmp_path / "wsgiref.py", TASK)
    for text in (tmp_path / "code/imap.py", "code.imap", tmp_path / "wsgiref.py"):
        code = f"from jubako.flow.loader import load_pipeline; print(load_pipeline({str(text)!r}).file)"
        command = [sys.executable, "-P", "-c", code]
        found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert found.stdout.startswith(f"{tmp_path}/"), found.stderr


def test_load_pipeline_part_that_a_module_of_python_does_not_have_is_no_matter_of_installing(tmp_path: Path) -> None:
    error = refusal(write(tmp_path / "imports_email.py", "import email.recipes\n" + TASK))
    assert error.hint == "email is Python's own module, and has no such part"


def test_load_pipeline_neighbour_comes_before_what_is_installed(tmp_path: Path) -> None:
    write(tmp_path / "pluggy.py", "VALUE = 7\n")
    write(tmp_path / "uses_pluggy.py", "from pluggy import VALUE\n" + TASK)
    code = f"from jubako.flow.loader import load_pipeline; load_pipeline({str(tmp_path / 'uses_pluggy.py')!r})"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_load_pipeline_file_in_a_package_is_imported_as_its_part(tmp_path: Path) -> None:
    write(tmp_path / "parcel/__init__.py", "")
    write(tmp_path / "parcel/inner/__init__.py", "")
    write(tmp_path / "parcel/inner/near.py", "VALUE = 7\n")
    file = write(tmp_path / "parcel/inner/tasks.py", "from .near import VALUE\n" + TASK)
    assert load_pipeline(file).get_task("DailySummary").__module__ == "parcel.inner.tasks"


def test_load_pipeline_file_with_dots_and_dashes_in_its_name_is_imported(tmp_path: Path) -> None:
    assert list(load_pipeline(write(tmp_path / "my-tasks.v2.py")).tasks) == ["DailySummary"]


@pytest.mark.parametrize(
    "files", [["pipeline.py", "other.py"], ["only.py"], ["__init__.py", "pipeline.py"]], ids=lambda files: files[0]
)
def test_load_pipeline_folder_finds_the_file_with_the_tasks(tmp_path: Path, files: list[str]) -> None:
    folder = tmp_path / f"folder_with_{files[0][:4].strip('_')}"
    for name in files:
        write(folder / name, TASK if name == files[0] else "")
    assert load_pipeline(str(folder)).file == str(folder / files[0])


def test_load_pipeline_by_folder_and_by_file_is_the_same_pipeline(tmp_path: Path) -> None:
    write(tmp_path / "same/pipeline.py")
    (tmp_path / "link").symlink_to(tmp_path / "same")
    by_folder, by_link = load_pipeline(str(tmp_path / "same")), load_pipeline(str(tmp_path / "link"))
    assert by_folder.file == by_link.file == load_pipeline(str(tmp_path / "same/pipeline.py")).file


def test_load_pipeline_folder_with_several_files_names_them(tmp_path: Path) -> None:
    write(tmp_path / "a.py")
    write(tmp_path / "b.py")
    error = refusal(str(tmp_path))
    assert "2 Python files" in error.message
    assert "a.py, b.py" in error.hint


def test_load_pipeline_module_is_found_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "company_a/__init__.py", "")
    write(tmp_path / "company_a/weather.py")
    monkeypatch.chdir(tmp_path)
    assert load_pipeline("company_a.weather").file == str(tmp_path / "company_a/weather.py")


def test_load_pipeline_source_travels_to_a_fresh_process(tmp_path: Path) -> None:
    write(tmp_path / "traveller/near_traveller.py", "VALUE = 7\n")
    write(tmp_path / "traveller/pipeline.py", "from near_traveller import VALUE\n" + TASK)
    source = pickle.dumps(load_pipeline(str(tmp_path / "traveller")).source)
    code = (
        "import pickle, sys; from jubako.flow.loader import reload; "
        f"pipeline = reload(pickle.loads({source!r})); print(pipeline.get_task('DailySummary').__module__)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "pipeline"


def test_load_pipeline_second_file_of_the_same_name_is_imported_afresh(tmp_path: Path) -> None:
    first = load_pipeline(write(tmp_path / "one/twin.py"))
    second = load_pipeline(write(tmp_path / "two/twin.py", TASK.replace("DailySummary", "Other")))
    assert (list(first.tasks), list(second.tasks)) == (["DailySummary"], ["Other"])


def test_get_task_misspelt_suggests_the_name(tmp_path: Path) -> None:
    pipeline = load_pipeline(write(tmp_path / "misspelt.py"))
    with pytest.raises(InputError, match="'dailysumary'") as caught:
        pipeline.get_task("dailysumary")
    assert caught.value.hint == "did you mean DailySummary?"


def test_get_task_range_is_there_without_being_imported(tmp_path: Path) -> None:
    pipeline = load_pipeline(write(tmp_path / "ranged.py"))
    assert pipeline.get_task("RangeDaily").get_task_family() == "RangeDaily"
    assert "RangeDaily" not in pipeline.tasks


def test_get_task_nothing_like_it_lists_the_tasks(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_pipeline(write(tmp_path / "listed.py")).get_task("Xyz")
    assert caught.value.hint == "it has DailySummary"


def test_load_pipeline_missing_file_suggests_a_near_one(tmp_path: Path) -> None:
    write(tmp_path / "weather.py")
    error = refusal(str(tmp_path / "wether.py"))
    assert error.hint == "did you mean weather.py?"


def test_load_pipeline_in_a_missing_folder_names_the_folder(tmp_path: Path) -> None:
    assert refusal(str(tmp_path / "gone/pipeline.py")).hint == f"there is no folder {tmp_path}/gone"


def test_load_pipeline_unknown_module_is_refused() -> None:
    assert "'no_such_module_anywhere'" in refusal("no_such_module_anywhere").message
    assert "email.no_such_part" in refusal("email.no_such_part").message


def test_load_pipeline_not_a_python_file_is_refused(tmp_path: Path) -> None:
    assert "not a Python file" in refusal(write(tmp_path / "tasks.txt")).message


def test_load_pipeline_named_like_a_module_that_jubako_needs_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "json/__init__.py", "")
    for file, what in (("calendar.py", "calendar.py"), ("_strptime.py", "_strptime.py"), ("json/tasks.py", "json")):
        error = refusal(write(tmp_path / file))
        name = what.removesuffix(".py")
        assert error.message == f"{tmp_path}/{what} has the name of Python's own module {name!r}, which jubako needs"
        assert error.hint in ("call the file differently", "call the folder differently")


def test_load_pipeline_syntax_error_shows_the_line_and_its_place(tmp_path: Path) -> None:
    file = write(tmp_path / "crooked.py", "x = 1\nclass Broken(\n    def run(self): pass\n")
    message = refusal(file).message
    assert message.startswith(f"{file}:")
    assert "def run(self)" in message or "class Broken(" in message


def test_load_pipeline_missing_import_names_module_file_and_line(tmp_path: Path) -> None:
    write(tmp_path / "needs.py", "import os\nimport surely_not_installed\n")
    error = refusal(write(tmp_path / "importer.py", "import needs\n" + TASK))
    assert error.message == f"{tmp_path}/needs.py:2: imports surely_not_installed, which is not installed"


@pytest.mark.parametrize("line", ["1 / 0", "raise SystemExit(3)", "from os import no_such_name"])
def test_load_pipeline_whose_code_raises_names_file_and_line(tmp_path: Path, line: str) -> None:
    file = write(tmp_path / f"raiser{len(line)}.py", f"x = 1\n{line}\n")
    assert refusal(file).message.startswith(f"{file}:2: importing the pipeline failed: ")
    assert f"raiser{len(line)}" not in sys.modules


def test_load_pipeline_without_tasks_says_what_a_task_is(tmp_path: Path) -> None:
    error = refusal(write(tmp_path / "empty_one.py", "from jubako.flow.tasks.task import Task\n"))
    assert "no task" in error.message
    assert "jubako.Task" in error.hint


def test_find_pipeline_relative_and_home_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "located.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_pipeline("located.py") == find_pipeline("~/located.py") == find_pipeline(os.path.abspath("located.py"))
