"""A command that takes PIPELINE TASK and, once it knows which, the task's own parameters as options.

The pipeline is imported while the line is parsed: the words PIPELINE and TASK are found first, then every parameter
of the task becomes an option (`--year 2010`; `min_value` is `--min-value` or `--min_value`), and click parses the line
as if they had been there all along. So wrong options get suggestions, `--help` after TASK lists the task's parameters,
and shells complete both. A parameter whose name one of the command's own options has is `--TASK-name`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from jubako.cli.formats import Document, Format, echo_document, printable
from jubako.errors import InputError, JubakoError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from jubako.flow.loader import Pipeline
    from jubako.flow.parameters import Parameter
    from jubako.flow.task import Task

__all__ = [
    "Asked",
    "PipelineCommand",
    "build_task",
    "echo_tasks",
    "get_asked",
    "pipeline_arguments",
    "read_parameters",
    "refusals_of",
    "told_form_of",
]

_META = "jubako.asked"

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


@dataclass(slots=True)
class Asked:
    """What the line asks for, filled while it is parsed. `texts` are the parameters that were given, as typed."""

    pipeline: Pipeline | None = None
    task: type[Task] | None = None
    texts: dict[str, str] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)  # parameter -> its option, "--year"


class PipelineCommand(click.Command):
    """See the head of the file."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.context_settings["token_normalize_func"] = lambda word: word.replace("_", "-")

    def about_parameter(self, task: type[Task], name: str, parameter: Parameter[Any]) -> str:
        """What `--help` says about a parameter's value when it isn't given."""
        family = task.get_task_family()
        if not parameter.has_task_value(family, name):
            return "[required]"
        value = parameter.task_value(family, name)
        return "" if value is None else f"[default: {printable(parameter.serialize(value))}]"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        asked = ctx.meta[_META] = Asked()
        pipeline, task = _find_words(self.params, args)
        if pipeline is not None:
            try:
                _look_up(asked, pipeline, task)
            except JubakoError:
                if not ctx.resilient_parsing:  # a shell that completes a half-typed line wants no errors
                    raise
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *self._task_options(ctx)]

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        task = get_asked(ctx).task
        words = f"PIPELINE {task.get_task_family() if task else 'TASK'} [--PARAMETER VALUE]... [OPTIONS]"
        formatter.write_usage(ctx.command_path, words)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        asked = get_asked(ctx)
        records = [record for option in self._task_options(ctx) if (record := option.get_help_record(ctx))]
        if asked.task is not None and records:
            with formatter.section(f"Parameters of {asked.task.get_task_family()}"):
                formatter.write_dl(records)
        options = [option for option in super().get_params(ctx) if isinstance(option, click.Option)]
        own = [record for option in options if (record := option.get_help_record(ctx))]
        with formatter.section("Options"):
            formatter.write_dl(own)

    def _task_options(self, ctx: click.Context) -> list[click.Option]:
        asked = get_asked(ctx)
        if asked.task is None:
            return []
        taken = {name for option in self.params for name in option.opts} | {"--help"}
        options = []
        for name, parameter in asked.task.get_params():
            flag = flag_of(name)
            if flag in taken:
                flag = f"--{asked.task.get_task_family()}-{flag[2:]}"
            asked.flags[name] = flag
            about = self.about_parameter(asked.task, name, parameter)
            options.append(_task_option(asked, name, flag, parameter, about))
        return options


def pipeline_arguments(command: Any, *, required: bool = True) -> Any:
    """Give a command its arguments PIPELINE and [TASK]; unless `required`, it asks for PIPELINE itself."""
    task = click.argument("task", required=False, shell_complete=_complete_task)
    return click.argument("pipeline", required=required, shell_complete=_complete_pipeline)(task(command))


def get_asked(ctx: click.Context) -> Asked:
    """What was found on the line `ctx` was made for."""
    asked: Asked = ctx.meta.setdefault(_META, Asked())
    return asked


def build_task(asked: Asked) -> Task:
    """The task that was asked for; InputError names what is missing or can't be read."""
    assert asked.task is not None  # the command checked it before
    values = read_parameters(asked)
    with refusals_of(asked.task):
        return asked.task(**values)


def read_parameters(asked: Asked, *, but: str = "") -> dict[str, object]:
    """The values of the parameters that were given; InputError if others have none. `but` is left to the command."""
    from jubako.flow.parameters import parse_argument

    assert asked.task is not None  # the command checked it before
    family = asked.task.get_task_family()
    values: dict[str, object] = {}
    missing = []
    for name, parameter in asked.task.get_params():
        if asked.texts.get(name):
            with told_form_of(parameter):
                values[name] = parse_argument(parameter, family, name, asked.texts[name])
        elif name != but and not parameter.has_task_value(family, name):
            missing.append(f"{asked.flags[name]} {form_of(parameter)}")
    if missing:
        raise InputError(f"{family} needs {' and '.join(missing)}", hint=f"'... {family} --help' lists its parameters")
    return values


@contextmanager
def told_form_of(parameter: Parameter[Any]) -> Iterator[None]:
    """Adds what a value of the parameter looks like to the refusal of a text."""
    try:
        yield
    except InputError as error:
        error.hint = error.hint or f"its form is {form_of(parameter)}"
        raise


@contextmanager
def refusals_of(task: type[Task]) -> Iterator[None]:
    """Turns what the task's own code says against its parameters into an InputError. What it prints is no result."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except JubakoError:
        raise
    except (ValueError, TypeError) as error:
        raise InputError(f"{task.get_task_family()} refuses these parameters: {error}") from error


def form_of(parameter: Parameter[Any]) -> str:
    """What a value of the parameter looks like: "YYYY-MM-DD"."""
    return next((_FORMS[kind.__name__] for kind in type(parameter).__mro__ if kind.__name__ in _FORMS), "TEXT")


def flag_of(name: str) -> str:
    """The option a parameter is given by: "--min-value"."""
    return f"--{name.replace('_', '-')}"


def echo_tasks(pipeline: Pipeline, format_: Format) -> None:
    """Print the pipeline's tasks with their parameters; those that may be left out are in brackets."""
    rows = [
        {
            "task": task.get_task_family(),
            "parameters": [_given_as(task.get_task_family(), *parameter) for parameter in task.get_params()],
            "description": _first_line(task.__doc__),
        }
        for task in pipeline.tasks.values()
    ]
    if format_ != "table":
        columns = ("task", "parameters", "description")
        echo_document(Document("jubako.tasks/1", columns, rows, {"pipeline": pipeline.source.name}, "tasks"), format_)
        return
    for task in rows:
        click.echo(printable(" ".join([str(task["task"]), *task["parameters"]])))
        if task["description"]:
            click.echo(printable(f"    {task['description']}"))


def _given_as(family: str, name: str, parameter: Parameter[Any]) -> str:
    flag = flag_of(name)
    text = flag if _is_switch(parameter) else f"{flag} {form_of(parameter)}"
    return f"[{text}]" if parameter.has_task_value(family, name) else text


def _look_up(asked: Asked, pipeline: str, task: str | None) -> None:
    from jubako.flow.loader import load_pipeline

    with redirect_stdout(sys.stderr):  # what importing it prints is no part of a result
        asked.pipeline = load_pipeline(pipeline)
    if task is not None:
        asked.task = asked.pipeline.get_task(task)


def _find_words(options: Sequence[click.Parameter], args: Sequence[str]) -> tuple[str | None, str | None]:
    """PIPELINE and TASK on a line whose other options aren't known yet.

    An unknown option in front of TASK is taken to have a value, unless one is joined to it or another option follows.
    """
    takes_value = {
        name: not (option.is_flag or option.count)
        for option in options
        if isinstance(option, click.Option)
        for name in (*option.opts, *option.secondary_opts)
    }
    words: list[str] = []
    index = 0
    while index < len(args) and len(words) < 2:
        word = args[index]
        index += 1
        if word == "--":
            words += args[index:]
            break
        if not word.startswith("-") or word == "-":
            words.append(word)
            continue
        following = args[index : index + 1]
        is_followed = bool(following) and not following[0].startswith("-")
        if "=" not in word and takes_value.get(word, is_followed and word not in {"-h", "--help"}):
            index += 1
    first, second, *_ = *words, None, None
    return first, second


def _task_option(asked: Asked, name: str, flag: str, parameter: Parameter[Any], about: str) -> click.Option:
    def keep(_ctx: click.Context, _option: click.Parameter, value: object) -> None:
        if value is not None:
            asked.texts[name] = str(value)

    words, metavar = [flag], form_of(parameter)
    if _is_switch(parameter):
        words, metavar = [f"{flag}/--no-{flag[2:]}"], ""
    description = printable(" ".join((parameter.description or "").split()))
    return click.Option(
        [f"parameter_{name}", *words],
        callback=keep,
        expose_value=False,
        default=None,
        metavar=metavar or None,
        help=f"{description} {about}".strip(),
    )


def _is_switch(parameter: Parameter[Any]) -> bool:
    """True if the parameter is given as `--dry` or `--no-dry`, without a value."""
    from jubako.flow.parameters import BoolParameter

    return isinstance(parameter, BoolParameter) and parameter.parsing == BoolParameter.IMPLICIT_PARSING


def _complete_pipeline(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def _complete_task(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    pipeline = get_asked(ctx).pipeline
    tasks = pipeline.tasks.values() if pipeline is not None else ()
    return [
        CompletionItem(task.get_task_family(), help=_first_line(task.__doc__))
        for task in tasks
        if task.get_task_family().startswith(incomplete)
    ]


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]
