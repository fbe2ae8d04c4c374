"""A task's parameters as options of a command: read, refused, suggested, listed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from jubako.cli.document import Format
from jubako.cli.parameter_words import echo_tasks
from jubako.cli.pipeline_command import PipelineCommand, build_task, get_asked, pipeline_arguments
from jubako.errors import InputError
from jubako.flow.parameters import InvalidParameterException

PIPELINE = '''
import datetime
from jubako import BoolParameter, ChoiceParameter, DateParameter, IntParameter, Parameter, ParameterVisibility, Task


class Daily(Task):
    """One day's work.

    And more about it."""

    date = DateParameter(description="the day\\nto make")
    min_value = IntParameter(default=3)
    dry = BoolParameter()
    loud = BoolParameter(parsing=BoolParameter.EXPLICIT_PARSING)
    workers = IntParameter(default=7, description="its own, not ours")
    city = ChoiceParameter(choices=["Oslo", "Rome"], default="Oslo")


class Bare(Task):
    pass


class Secretive(Task):
    password = Parameter(default="swordfish", visibility=ParameterVisibility.PRIVATE)


class Refusing(Task):
    size = IntParameter(default=1)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.size > 10:
            raise ValueError(f"size {self.size} is over 10")
'''


@click.command(cls=PipelineCommand)
@pipeline_arguments
@click.option("--workers", type=int, default=1, help="How many.")
@click.option("--quick", is_flag=True)
@click.pass_context
def show(ctx: click.Context, /, pipeline: str, task: str | None, workers: int, quick: bool) -> None:
    """Print the task that was asked for."""
    asked = get_asked(ctx)
    assert asked.pipeline is not None
    if asked.task is None:
        echo_tasks(asked.pipeline, "table")
    else:
        click.echo(f"{build_task(asked)} workers={workers} quick={quick}")


Invoke = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    (tmp_path / "shown_tasks.py").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(show, [*words])


def daily(**changed: object) -> str:
    values: dict[str, Any] = {"min_value": 3, "dry": False, "loud": False, "workers": 7, "city": "Oslo"} | changed
    return f"Daily(date=2010-01-01, {', '.join(f'{name}={value}' for name, value in values.items())})"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("--date 2010-01-01", f"{daily()} workers=1 quick=False"),
        ("--date=2010-01-01 --min_value 5", f"{daily(min_value=5)} workers=1 quick=False"),
        ("--date 2010-01-01 --min-value 5 --dry", f"{daily(min_value=5, dry=True)} workers=1 quick=False"),
        ("--date 2010-01-01 --no-dry --loud true", f"{daily(loud=True)} workers=1 quick=False"),
        ("--date 2010-01-01 --workers 2 --Daily-workers 9", f"{daily(workers=9)} workers=2 quick=False"),
        ("--date 2010-01-01 --city Rome --quick", f"{daily(city='Rome')} workers=1 quick=True"),
        ("--date 2010-01-01 --city=", f"{daily()} workers=1 quick=False"),
    ],
)
def test_parameters_are_read_as_options(invoke: Invoke, words: str, shown: str) -> None:
    result = invoke("shown_tasks.py", "Daily", *words.split())
    assert result.exception is None, result.output
    assert result.output == f"{shown}\n"


def test_parameters_may_stand_in_front_of_the_task(invoke: Invoke) -> None:
    result = invoke("--workers", "2", "shown_tasks.py", "--date", "2010-01-01", "Daily")
    assert result.output == f"{daily()} workers=2 quick=False\n"


DAILY_TAKES = (
    "Daily takes --date YYYY-MM-DD [--min-value INTEGER] [--dry] [--loud true|false] [--Daily-workers INTEGER]"
    " [--city CHOICE]; 'show shown_tasks.py Daily --help' explains the options"
)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("Daily --dat 2010-01-01", "no such option --dat; did you mean --date?", DAILY_TAKES),
        ("Daily --dtae=2010-01-01", "no such option --dtae; did you mean --date?", DAILY_TAKES),
        ("Daily --bogus", "no such option --bogus", DAILY_TAKES),
        ("Daily --Daily-work 3", "no such option --Daily-work; did you mean --Daily-workers?", DAILY_TAKES),
        ("Daily --date", "option '--date' requires an argument", DAILY_TAKES),
        ("Daily --date 2010-01-01 more", "got unexpected extra argument (more)", DAILY_TAKES),
        (
            "Bare --date 2010-01-01",
            "no such option --date",
            "Bare takes no parameters; 'show shown_tasks.py Bare --help' explains the options",
        ),
    ],
)
def test_option_the_task_does_not_have_is_refused_with_those_it_has(
    invoke: Invoke, words: str, message: str, hint: str
) -> None:
    error = invoke("shown_tasks.py", *words.split()).exception
    assert isinstance(error, InputError)
    assert (error.message, error.hint) == (message, hint)


def test_parameter_missing_is_named_with_its_form(invoke: Invoke) -> None:
    error = invoke("shown_tasks.py", "Daily").exception
    assert isinstance(error, InputError)
    assert error.message == "Daily needs --date YYYY-MM-DD"


def test_parameter_unreadable_says_which_and_why(invoke: Invoke) -> None:
    error = invoke("shown_tasks.py", "Daily", "--date", "2010-02-30").exception
    assert isinstance(error, InvalidParameterException)
    assert error.message.startswith("Daily: --date '2010-02-30' can't be read: ")


def test_parameters_the_task_itself_refuses_are_wrong_input(invoke: Invoke) -> None:
    for words in (["Refusing", "--size", "11"], ["Daily", "--date", "2010-01-01", "--city", "Paris"]):
        error = invoke("shown_tasks.py", *words).exception
        assert isinstance(error, InputError)
        assert "11" in error.message or "Paris" in error.message


def test_task_misspelt_is_refused_with_a_suggestion(invoke: Invoke) -> None:
    error = invoke("shown_tasks.py", "Dayly").exception
    assert isinstance(error, InputError)
    assert error.hint == "did you mean Daily?"


def test_no_task_lists_the_tasks_with_their_parameters(invoke: Invoke) -> None:
    assert invoke("shown_tasks.py").output.splitlines() == [
        "Daily --date YYYY-MM-DD [--min-value INTEGER] [--dry] [--loud true|false] [--workers INTEGER] [--city CHOICE]",
        "    One day's work.",
        "Bare",
        "Secretive [--password TEXT]",
        "Refusing [--size INTEGER]",
    ]


def test_help_after_the_task_lists_its_parameters(invoke: Invoke) -> None:
    lines = invoke("shown_tasks.py", "Daily", "--help").output.splitlines()
    assert lines[0] == "Usage: show PIPELINE Daily [--PARAMETER VALUE]... [OPTIONS]"
    assert [line.strip() for line in lines[1:6]] == ["", "One day's work.", "", "And more about it.", ""]
    text = "\n".join(" ".join(line.split()) for line in lines)
    assert "Parameters of Daily:\n--date YYYY-MM-DD the day to make [required]" in text
    assert "--min-value INTEGER [default: 3]" in text
    assert "--Daily-workers INTEGER its own, not ours [default: 7]" in text
    assert "--dry / --no-dry" in text


def test_help_shows_no_concealed_value(invoke: Invoke) -> None:
    result = invoke("shown_tasks.py", "Secretive", "--help")
    assert "--password TEXT [has a default]" in " ".join(result.output.split())
    assert "swordfish" not in result.output


def test_help_without_a_pipeline_is_the_commands_own(invoke: Invoke) -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    assert "Parameters" not in result.output


def test_pipeline_missing_is_wrong_usage(invoke: Invoke) -> None:
    result = invoke()
    assert result.exit_code == 2
    assert "PIPELINE" in result.output


@pytest.mark.parametrize("format_", ["json"])
def test_list_of_tasks_as_a_document_has_parameters_and_descriptions(invoke: Invoke, format_: Format) -> None:
    @click.command(cls=PipelineCommand)
    @pipeline_arguments
    @click.pass_context
    def listed(ctx: click.Context, /, **words: str) -> None:
        pipeline = get_asked(ctx).pipeline
        assert pipeline is not None
        echo_tasks(pipeline, format_)

    document = json.loads(CliRunner().invoke(listed, ["shown_tasks.py"]).output)
    assert document["schema"] == "jubako.tasks/1"
    assert [task["task"] for task in document["tasks"]] == ["Daily", "Bare", "Secretive", "Refusing"]
    assert document["tasks"][0]["parameters"][:2] == ["--date YYYY-MM-DD", "[--min-value INTEGER]"]


def test_value_that_cannot_be_read_is_refused_with_the_form_it_needs(invoke: Invoke) -> None:
    error = invoke("shown_tasks.py", "Daily", "--date", "2010-13-01").exception
    assert isinstance(error, InputError)
    assert error.message == "Daily: --date '2010-13-01' can't be read: its form is not YYYY-MM-DD"
    error = invoke("shown_tasks.py", "Daily", "--date", "2010-02-30").exception
    assert isinstance(error, InputError)
    assert "day is out of range for month" in error.message
    assert error.hint == "its form is YYYY-MM-DD"


def test_what_the_pipeline_prints_while_it_is_imported_is_no_part_of_a_result(tmp_path: Path) -> None:
    (tmp_path / "chatty_tasks.py").write_text("print('hello')\nfrom jubako import Task\nclass Said(Task): pass\n")
    result = CliRunner().invoke(show, [str(tmp_path / "chatty_tasks.py")])
    assert result.stdout == "Said\n"
    assert result.stderr == "hello\n"
