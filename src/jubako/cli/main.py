"""The `jubako` command: finds the one file a command lives in, runs it, and turns what went wrong into a sentence.

Nothing but click is imported here, and a command's module only when that command is used: start-up is a budget
(`jubako --version` under 120 ms). So the list of commands with its one-line help is a table, checked by a test.

An error becomes `Error: one sentence`, then `hint: the next thing to try`, on stderr, and an exit code:

    0    all that was asked for is there          3    this host cannot do it (kernel, disk, permission)
    1    something asked for failed or is missing  4    another run or program changed the same things
    2    asked wrongly                             70   a defect in jubako itself; please report it
    130  interrupted (Ctrl-C)                      141  the reader of our output went away, as SIGPIPE would say

`--debug`, anywhere on the line, shows the traceback too.
"""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import click

from jubako._version import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from jubako.errors import JubakoError

__all__ = [
    "EXIT_BUG",
    "EXIT_CONFLICT",
    "EXIT_FAILED",
    "EXIT_HOST",
    "EXIT_INTERRUPTED",
    "EXIT_USAGE",
    "is_debugging",
    "jubako",
    "main",
]

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_HOST = 3
EXIT_CONFLICT = 4
EXIT_BUG = 70  # EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

_DEBUG = "jubako.debug"  # in a context's meta


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a command lives, and what the list of commands says about it."""

    home: str  # "module:attribute"
    summary: str
    section: str


_COMMANDS = {
    "run": _Entry("jubako.cli.run:run", "Run a task of a pipeline and everything it needs.", "Pipelines"),
    "backfill": _Entry("jubako.cli.backfill:backfill", "Run a dated task for every date of a range.", "Pipelines"),
    "luigi": _Entry("jubako.cli.luigi:luigi", "Run an existing Luigi pipeline as it stands.", "Pipelines"),
    "box": _Entry("jubako.cli.box:box", "Run any command on a copy-on-write view of this machine.", "Boxes"),
    "doctor": _Entry("jubako.cli.doctor:doctor", "What this host can do, and the cure for what it cannot.", "The tool"),
    "completion": _Entry("jubako.cli.completion:completion", "Print the completion script of a shell.", "The tool"),
}

_EPILOG = """\b
Examples:
  jubako run examples/weather YearReport --year 2010 --workers 2
  jubako box run -- make install

'jubako COMMAND --help' explains one command. Exit codes: 0 all that was asked for is there, 1 something failed or is
missing, 2 wrong usage, 3 this host cannot, 4 conflict, 130 interrupted."""


class _Commands(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].home.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        _add_debug(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _COMMANDS and ctx.resilient_parsing:  # a shell completes a line that is no command of ours
            return None, None, []
        if name not in _COMMANDS and not name.startswith("-"):
            close = difflib.get_close_matches(name, _COMMANDS, n=3, cutoff=0.5)
            tail = f" Did you mean {' or '.join(close)}?" if close else " 'jubako --help' lists the commands."
            raise click.UsageError(f"No such command '{name}'.{tail}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        named = [CompletionItem(n, help=e.summary) for n, e in _COMMANDS.items() if n.startswith(incomplete)]
        return [*named, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in dict.fromkeys(entry.section for entry in _COMMANDS.values()):
            rows = [(name, entry.summary) for name, entry in _COMMANDS.items() if entry.section == section]
            with formatter.section(section):
                formatter.write_dl(rows)


@click.group(
    cls=_Commands,
    epilog=_EPILOG,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="jubako", message="%(prog)s %(version)s")
def jubako() -> None:
    """Dated batch work in which every task is a transaction: run in a box, checked, published whole or not at all."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line `arguments` (the process's own by default) and leave with its exit code."""
    _open_closed_streams()
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        # Whatever Python still holds for stdout must go nowhere, or it complains once more while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_BROKEN_PIPE
    sys.exit(code)


def is_debugging(ctx: click.Context) -> bool:
    """True if --debug was given: the tracebacks of tasks are wanted too."""
    return bool(ctx.meta.get(_DEBUG))


def _open_closed_streams() -> None:
    """Give a closed stdin, stdout or stderr (`>&-`) /dev/null, or the next file opened would be taken for it."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), fd)  # the lowest free descriptor: `fd` itself, now inherited
            setattr(sys, name, os.fdopen(fd, mode, closefd=False))


def _run(arguments: list[str]) -> int:
    """Run the command; the exit code it ends with, after its error was printed."""
    debug = _asks_for_debug(arguments)
    for stream in (sys.stdout, sys.stderr):  # names of files are bytes: print those that are not UTF-8 as they are
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="surrogateescape")
    try:
        if instruction := os.environ.get("_JUBAKO_COMPLETE"):
            return _complete(instruction)
        with jubako.make_context("jubako", arguments, color=_color()) as context:
            result = jubako.invoke(context)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True, color=_color())
        return EXIT_USAGE
    except click.ClickException as error:
        _explain_usage(error)
        return EXIT_USAGE
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001  (the one place where an error becomes a sentence and a code)
        return _explain(error, debug=debug)


def _complete(instruction: str) -> int:
    """What a shell's completion script asks for: "bash_complete" and the like."""
    from click.shell_completion import shell_complete

    return shell_complete(jubako, {}, "jubako", "_JUBAKO_COMPLETE", instruction)


def _explain_usage(error: click.ClickException) -> None:
    from jubako.cli.formats import printable

    context = error.ctx if isinstance(error, click.UsageError) else None
    _say("Error", printable(error.format_message()))
    if context is not None:
        click.echo(f"usage: {_usage_of(context)}", err=True)
        _say("hint", f"'{context.command_path} --help' shows how, with examples.")


def _usage_of(context: click.Context) -> str:
    return context.command.get_usage(context).removeprefix("Usage: ")


def _explain(error: Exception, *, debug: bool) -> int:
    """Print an error's sentence and hint; its exit code."""
    from jubako.errors import JubakoError

    if debug:
        traceback.print_exception(error)
    if isinstance(error, JubakoError):
        _say("Error", error.message)
        if error.hint:
            _say("hint", error.hint)
        return _code_of(error)
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        _say("Error", f"{error.strerror or error}{where}")
        _say("hint", "'jubako doctor' shows what this host can do; --debug shows where it happened.")
        return EXIT_HOST
    _say("Error", f"a defect in jubako: {type(error).__name__}: {error}")
    _say("hint", "Please report it with what --debug shows.")
    return EXIT_BUG


def _code_of(error: JubakoError) -> int:
    from jubako.errors import BugError, ConflictError, HostError, InputError

    for kind, code in (
        (InputError, EXIT_USAGE),
        (HostError, EXIT_HOST),
        (ConflictError, EXIT_CONFLICT),
        (BugError, EXIT_BUG),
    ):
        if isinstance(error, kind):
            return code
    return EXIT_FAILED


def _say(label: str, text: str) -> None:
    """`label: text` on stderr, every line of the text safe for a terminal."""
    from jubako.cli.formats import printable

    first, *rest = text.splitlines() or [""]
    colour = "red" if label == "Error" else "cyan"
    click.echo(f"{click.style(f'{label}:', fg=colour, bold=True)} {printable(first)}", err=True, color=_color())
    for line in rest:
        click.echo(f"  {printable(line)}", err=True)


def _color() -> bool | None:
    """What click is told about colours: none with NO_COLOR, else it looks at the terminal."""
    return False if os.environ.get("NO_COLOR") else None


def _asks_for_debug(arguments: Sequence[str]) -> bool:
    """True if --debug stands on the line, in front of a `--` that ends our own options."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--debug" in own


def _add_debug(command: click.Command) -> None:
    """Let a command, and every command below it, take --debug, which `main` has already read."""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _add_debug(below)
        return
    if not any("--debug" in parameter.opts for parameter in command.params):
        command.params.append(_debug_option())


def _debug_option() -> click.Option:
    """--debug, remembered for whoever prints errors that aren't exceptions: those of tasks."""

    def remember(ctx: click.Context, _option: click.Parameter, value: bool) -> None:
        ctx.meta[_DEBUG] = value or ctx.meta.get(_DEBUG, False)

    return click.Option(
        ["--debug"], is_flag=True, expose_value=False, callback=remember, help="Show the traceback of an error."
    )


jubako.params.append(_debug_option())
