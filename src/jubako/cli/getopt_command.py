"""A click command whose line is read by `getopt_line`: click gives it its help, its completion and its place."""

from __future__ import annotations

import click

from jubako._version import __version__
from jubako.cli.getopt_line import DEBUG, asks_for
from jubako.cli.terminal import echo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jubako.cli.getopt_line import Switch

__all__ = ["GetoptCommand"]


class GetoptCommand(click.Command):
    """Hands all words to `run`, which returns the exit code; `switches` are there to be listed and completed."""

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[str]], int],
        switches: Sequence[Switch],
        *,
        help: str,
        epilog: str,
        usage: str = "[OPTION]... [--] [CMD [ARGUMENT]...]",
    ) -> None:
        super().__init__(
            name,
            callback=lambda: run(click.get_current_context().args),
            params=[_option(switch) for switch in switches],
            help=help,
            epilog=epilog,
            options_metavar=usage,
        )
        self._switches = switches

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        if asks_for(("help",), self._switches, args):
            echo(self.get_help(ctx))
            ctx.exit()
        if asks_for(("version",), self._switches, args):
            echo(f"jubako {__version__}")
            ctx.exit()
        ctx.args = args
        return args

    def invoke(self, ctx: click.Context) -> object:
        return ctx.invoke(self.callback)  # type: ignore[arg-type]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows: list[tuple[str, str]] = []
        names = ""
        for switch in (*self._switches, DEBUG):
            shown = f"{names}{switch.shown()}"
            if switch.help:
                rows.append((shown, switch.help))
                names = ""
            else:
                names = f"{shown.partition(' ')[0] if not switch.letter else shown}, "
        with formatter.section("Options"):
            formatter.write_dl(rows, col_max=32)


def _option(switch: Switch) -> click.Option:
    names = [f"--{switch.name}", *([f"-{switch.letter}"] if switch.letter else [])]
    if switch.takes == "nothing":
        return click.Option(names, is_flag=True, help=switch.help)
    return click.Option(names, metavar=switch.metavar, help=switch.help, multiple=True)
