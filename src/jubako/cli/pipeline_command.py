"""A command that takes PIPELINE TASK and, once it knows which, the task's own parameters as options.

The pipeline is imported while the line is parsed: the words PIPELINE and TASK are found first, then every parameter
of the task becomes an option (`--year 2010`; `min_value` is `--min-value` or `--min_value`), and click parses the line
as if they had been there all along. So wrong options get suggestions, `--help` after TASK lists the task's parameters,
and shells complete both. A parameter whose name one of the command's own options has is `--TASK-name`.
"""

from __future__ import annotations

import difflib
import inspect
import sys
from contextlib import contextmanager, redirect_stdout

import click

from jubako.cli.parameter_words import (
    describe_default,
    describe_parameters,
    first_line,
    flag_of,
    form_of,
    is_switch,
    told_form_of,
)
from jubako.cli.terminal import printable
from jubako.errors import InputError, JubakoError
from jubako.records import field, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from click.shell_completion import CompletionItem

    from jubako.flow.loader import Pipeline
    from jubako.flow.parameters import Parameter
    from jubako.flow.tasks.task import Task

__all__ = [
    "Asked",
    "PipelineCommand",
    "build_task",
    "get_asked",
    "pipeline_arguments",
    "read_parameters",
    "refusals_of",
]

_META = "jubako.asked"


@record(frozen=False)
class Asked:
    """What the line asks for, filled while it is parsed. `texts` are the parameters that were given, as typed."""

    pipeline: Pipeline | None = None
    task: type[Task] | None = None
    texts: dict[str, str] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)  # parameter -> its option, "--year"


class PipelineCommand(click.Command):
    """See the head of the file. `reports`: hooks are told when the pipeline of a task cannot be imported."""

    def __init__(self, *args: Any, reports: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self._reports = reports
        self.context_settings["token_normalize_func"] = lambda word: word.replace("_", "-")

    def about_parameter(self, task: type[Task], name: str, parameter: Parameter[Any]) -> str:
        """What `--help` says about a parameter's value when it isn't given."""
        return describe_default(task, name, parameter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        asked = ctx.meta[_META] = Asked()
        pipeline, task = _find_words(self.params, args)
        if pipeline is not None:
            is_meant = not ctx.resilient_parsing and not {"-h", "--help"}.intersection(args)
            if is_meant:
                from jubako.cli.progress import load_display

                load_display()
            try:
                asked.pipeline = _load(pipeline)
                asked.task = None if task is None else asked.pipeline.get_task(task)
            except JubakoError as error:
                if is_meant and self._reports and task is not None and asked.pipeline is None:
                    from jubako.cli.unloadable import find_config, tell_of_unloadable

                    tell_of_unloadable(pipeline, task, find_config(args), error)
                if not ctx.resilient_parsing:  # a shell that completes a half-typed line wants no errors
                    raise
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if asked.task is None:
                raise
            shown = f"'{ctx.command_path} {pipeline} {task} --help'"
            raise InputError(
                _sentence_of(error, ctx),
                hint=f"{describe_parameters(asked.task, asked.flags)}; {shown} explains the options",
            ) from error

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *self._task_options(ctx)]

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        task = get_asked(ctx).task
        words = f"PIPELINE {task.get_task_family() if task else 'TASK'} [--PARAMETER VALUE]... [OPTIONS]"
        formatter.write_usage(ctx.command_path, words)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        task = get_asked(ctx).task
        if task is None or not task.__doc__:
            super().format_help_text(ctx, formatter)
            return
        with formatter.indentation():
            for paragraph in inspect.cleandoc(task.__doc__).split("\n\n"):
                formatter.write_paragraph()
                formatter.write_text(printable(paragraph))

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
def refusals_of(task: type[Task]) -> Iterator[None]:
    """Turns what the task's own code says against its parameters into an InputError. What it prints is no result."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except JubakoError:
        raise
    except (ValueError, TypeError) as error:
        raise InputError(f"{task.get_task_family()} refuses these parameters: {error}") from error


def _sentence_of(error: click.UsageError, ctx: click.Context) -> str:
    """What click has to say, as our own errors say it."""
    if not isinstance(error, click.NoSuchOption):
        message = error.format_message().rstrip(".")
        return message[:1].lower() + message[1:]
    options = [option for option in ctx.command.get_params(ctx) if isinstance(option, click.Option)]
    words = {word.lstrip("-"): word for option in options for word in (*option.opts, *option.secondary_opts)}
    given = error.option_name.lstrip("-")  # the dashes that all have in common make nothing alike
    near = [word for word in words if word.startswith(given)] or difflib.get_close_matches(given, words)
    also = f"; did you mean {' or '.join(words[word] for word in near)}?" if near else ""
    return f"no such option {error.option_name}{also}"


def _load(pipeline: str) -> Pipeline:
    from jubako.flow.loader import load_pipeline

    with redirect_stdout(sys.stderr):  # what importing it prints is no part of a result
        return load_pipeline(pipeline)


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
    if is_switch(parameter):
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


def _complete_pipeline(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def _complete_task(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    pipeline = get_asked(ctx).pipeline
    tasks = pipeline.tasks.values() if pipeline is not None else ()
    return [
        CompletionItem(task.get_task_family(), help=first_line(task.__doc__))
        for task in tasks
        if task.get_task_family().startswith(incomplete)
    ]
