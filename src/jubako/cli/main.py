"""The `jubako` command: finds the one file a command lives in, runs it, and turns what went wrong into a sentence.

Nothing but click is imported here, and a command's module only when that command is used: start-up is a budget, and a
test counts modules. So the list of commands with its one-line help is a table, checked by a test. The lines used most
do not even come here, see `short`.

`--debug`, anywhere on the line, shows the traceback too.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from jubako._version import __version__
from jubako.cli.exits import EXIT_USAGE, asks_for_debug, explain_interrupt, finish
from jubako.cli.terminal import echo, printable, say
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from click.shell_completion import CompletionItem


__all__ = ["is_debugging", "jubako", "main"]

_DEBUG = "jubako.debug"  # in a context's meta


@record
class _Entry:
    """Where a command lives, and what the list of commands says about it."""

    home: str  # "module:attribute"
    summary: str
    section: str


_COMMANDS = {
    "run": _Entry("jubako.cli.run:run", "Run a task of a pipeline and everything it needs.", "Pipelines"),
    "backfill": _Entry("jubako.cli.backfill:backfill", "Run a dated task for every date of a range.", "Pipelines"),
    "status": _Entry("jubako.cli.status:status", "A calendar of what a dated task stands at.", "Pipelines"),
    "why": _Entry("jubako.cli.why:why", "Why a task would run, or would not.", "Pipelines"),
    "verify": _Entry("jubako.cli.verify:verify", "Make what is done again and compare it.", "Pipelines"),
    "history": _Entry("jubako.cli.history:history", "Runs and attempts, the newest first.", "Pipelines"),
    "logs": _Entry("jubako.cli.logs:logs", "What the tasks of a run printed, or print.", "Pipelines"),
    "luigi": _Entry("jubako.cli.luigi:luigi", "Run an existing Luigi pipeline as it stands.", "Pipelines"),
    "schedule": _Entry("jubako.cli.schedule:schedule", "Run what a pipeline schedules when it is due.", "Pipelines"),
    "notify": _Entry("jubako.cli.notify:notify", "Try out who is told how runs end.", "Pipelines"),
    "box": _Entry("jubako.cli.box:box", "Run any command on a copy-on-write view of this machine.", "Boxes"),
    "try": _Entry("jubako.cli.try_command:try_", "Run a command, see what it did, then commit it or not.", "Boxes"),
    "unshare": _Entry("jubako.cli.unshare:unshare", "Run a program in new namespaces.", "Boxes"),
    "nsenter": _Entry("jubako.cli.nsenter:nsenter", "Run a program in another process's namespaces.", "Boxes"),
    "lsns": _Entry("jubako.cli.lsns:lsns", "The namespaces there are, and who is in them.", "Boxes"),
    "mounts": _Entry("jubako.cli.mounts:mounts", "The mount table as a tree, and how mounts propagate.", "Boxes"),
    "overlay": _Entry("jubako.cli.overlay:overlay", "Overlays by hand: mount, look at, apply, merge.", "Boxes"),
    "attention": _Entry("jubako.cli.attention:attention", "Check and show attention layers.", "Attention"),
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
            import difflib  # for the mistaken

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


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line `arguments` (the process's own by default) and leave with its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(finish(lambda: _run(words), debug=asks_for_debug(words)))


def is_debugging(ctx: click.Context) -> bool:
    """True if --debug was given: the tracebacks of tasks are wanted too."""
    return bool(ctx.meta.get(_DEBUG))


def _run(arguments: list[str]) -> int:
    """Run the command; the exit code it ends with. What click says against the line is printed here."""
    try:
        if instruction := os.environ.get("_JUBAKO_COMPLETE"):
            return _complete(instruction)
        with jubako.make_context("jubako", arguments, color=_color()) as context:
            result = jubako.invoke(context)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        echo(error.format_message(), err=True)
        return EXIT_USAGE
    except click.ClickException as error:
        _explain_usage(error)
        return EXIT_USAGE
    except click.Abort:
        return explain_interrupt()


def _complete(instruction: str) -> int:
    """What a shell's completion script asks for: "bash_complete" and the like."""
    from click.shell_completion import shell_complete

    return shell_complete(jubako, {}, "jubako", "_JUBAKO_COMPLETE", instruction)


def _explain_usage(error: click.ClickException) -> None:
    context = error.ctx if isinstance(error, click.UsageError) else None
    say("Error", printable(error.format_message().replace("\n\t", " ")))  # click lists choices one a line
    if context is not None:
        echo(f"usage: {_usage_of(context)}", err=True)
        say("hint", f"'{context.command_path} --help' shows how, with examples.")


def _usage_of(context: click.Context) -> str:
    return context.command.get_usage(context).removeprefix("Usage: ")


def _color() -> bool | None:
    """What click is told about colours: none with NO_COLOR, else it looks at the terminal."""
    return False if os.environ.get("NO_COLOR") else None


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
