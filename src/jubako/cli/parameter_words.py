"""How a task's parameters look on a command line: what they are called there, and what a value of each is like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jubako.cli.document import Document, Format
from jubako.cli.exits import EXIT_USAGE
from jubako.cli.formats import echo_document
from jubako.cli.terminal import echo, printable
from jubako.errors import InputError

if TYPE_CHECKING:
    from jubako.flow.loader import Pipeline
    from jubako.flow.parameters import Parameter
    from jubako.flow.tasks.task import Task

__all__ = [
    "ask_which_task",
    "describe_default",
    "describe_parameters",
    "echo_tasks",
    "first_line",
    "flag_of",
    "form_of",
    "is_switch",
    "told_form_of",
]

# What a value of each kind looks like on the command line; a subclass is shown as its nearest base.
_FORMS = {
    "DateParameter": "YYYY-MM-DD",
    "MonthParameter": "YYYY-MM",
    "YearParameter": "YYYY",
    "DateHourParameter": "YYYY-MM-DDTHH",
    "DateMinuteParameter": "YYYY-MM-DDTHHMM",
    "DateSecondParameter": "YYYY-MM-DDTHHMMSS",
    "DateIntervalParameter": "YYYY|YYYY-MM|YYYY-Www|FROM-TO",
    "TimeDeltaParameter": "DURATION",
    "IntParameter": "INTEGER",
    "FloatParameter": "NUMBER",
    "BoolParameter": "true|false",
    "NumericalParameter": "NUMBER",
    "ChoiceParameter": "CHOICE",
    "ChoiceListParameter": "CHOICE,...",
    "EnumParameter": "NAME",
    "EnumListParameter": "NAME,...",
    "ListParameter": "JSON",
    "TupleParameter": "JSON",
    "DictParameter": "JSON",
    "PathParameter": "PATH",
    "TaskParameter": "TASK",
    "Parameter": "TEXT",
}


def form_of(parameter: Parameter[Any]) -> str:
    """What a value of the parameter looks like: "YYYY-MM-DD"."""
    return next((_FORMS[kind.__name__] for kind in type(parameter).__mro__ if kind.__name__ in _FORMS), "TEXT")


def flag_of(name: str) -> str:
    """The option a parameter is given by: "--min-value"."""
    return f"--{name.replace('_', '-')}"


def is_switch(parameter: Parameter[Any]) -> bool:
    """True if the parameter is given as `--dry` or `--no-dry`, without a value."""
    from jubako.flow.parameters import BoolParameter

    return isinstance(parameter, BoolParameter) and parameter.parsing == BoolParameter.IMPLICIT_PARSING


def describe_default(task: type[Task], name: str, parameter: Parameter[Any]) -> str:
    """What a parameter is when it isn't given: "[default: 3]", "[required]", or nothing. Conceals what is concealed."""
    from jubako.flow.parameters import ParameterVisibility

    family = task.get_task_family()
    if not parameter.has_task_value(family, name):
        return "[required]"
    if parameter.visibility is not ParameterVisibility.PUBLIC:
        return "[has a default]"
    value = parameter.task_value(family, name)
    return "" if value is None else f"[default: {printable(parameter.serialize(value))}]"


def describe_parameters(task: type[Task], flags: Mapping[str, str]) -> str:
    """What the task is given, "Daily takes --date YYYY-MM-DD [--min-value INTEGER]"; `flags`: the options by name."""
    family = task.get_task_family()
    given = " ".join(_given_as(family, name, flags[name], parameter) for name, parameter in task.get_params())
    return printable(f"{family} takes {given or 'no parameters'}")


@contextmanager
def told_form_of(parameter: Parameter[Any]) -> Iterator[None]:
    """Adds what a value of the parameter looks like to the refusal of a text."""
    try:
        yield
    except InputError as error:
        if form_of(parameter) not in error.message:
            error.hint = error.hint or f"its form is {form_of(parameter)}"
        raise


def ask_which_task(pipeline: Pipeline, format_: Format) -> int:
    """Prints the tasks there are for a line that names none; the command's exit code."""
    echo_tasks(pipeline, format_)
    echo("Error: which of these tasks? Name it after the pipeline.", err=True)
    return EXIT_USAGE


def echo_tasks(pipeline: Pipeline, format_: Format) -> None:
    """Print the pipeline's tasks with their parameters; those that may be left out are in brackets."""
    rows = [
        {
            "task": task.get_task_family(),
            "parameters": [
                _given_as(task.get_task_family(), name, flag_of(name), parameter)
                for name, parameter in task.get_params()
            ],
            "description": first_line(task.__doc__),
        }
        for task in pipeline.tasks.values()
    ]
    if format_ != "table":
        columns = ("task", "parameters", "description")
        echo_document(Document("jubako.tasks/1", columns, rows, {"pipeline": pipeline.source.name}, "tasks"), format_)
        return
    for task in rows:
        echo(printable(" ".join([str(task["task"]), *task["parameters"]])))
        if task["description"]:
            echo(printable(f"    {task['description']}"))


def first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def _given_as(family: str, name: str, flag: str, parameter: Parameter[Any]) -> str:
    text = flag if is_switch(parameter) else f"{flag} {form_of(parameter)}"
    return f"[{text}]" if parameter.has_task_value(family, name) else text
