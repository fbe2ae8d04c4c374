"""`jubako luigi`: Luigi's command line for existing pipelines. All of it is `jubako.luigi.program`'s."""

from __future__ import annotations

import click

from jubako.cli.main import is_debugging
from jubako.cli.terminal import echo

__all__ = ["luigi"]

_EPILOG = """\b
Examples:
  jubako luigi --module daily RangeDaily --of Report --start 2021-09-01
  jubako luigi --module daily Report --date 2021-09-01 --workers 4 --box host
  jubako luigi pipeline.py Report --date 2021-09-01       # a script that calls luigi.run()
  jubako luigi deps --module daily Report --date 2021-09-01 --upstream-family Raw
  jubako luigi deps-tree --module daily Report --date 2021-09-01
  jubako luigi grep --status FAILED

\b
Beyond Luigi's flags ('jubako luigi --module daily Report --help' lists those of a task):
  --box host|none                 each task in a box, published whole or not at all  [none]
  --strict                        exit code 1 unless all that was asked for is there
  --undeclared warn|fail|publish  in boxes: what becomes of what no task declared
  --keep                          keep the box of a task that fails
  --durability full|relaxed       in boxes: survive power loss, or only kill -9  [full]
A task's own flag of such a name comes first; then it is --jubako-box, and so on.

Exit codes are those of [retcode] in luigi.cfg; all but one are 0 unless they are set."""


@click.command(
    epilog=_EPILOG,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("words", metavar="[--module MODULE] TASK [--PARAMETER VALUE]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def luigi(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Run an existing Luigi pipeline as it stands, with Luigi's command line."""
    if words in ((), ("--help",), ("-h",)):
        echo(ctx.get_help())
        ctx.exit(0 if words else 2)

    from jubako.luigi.program import main

    main(words, debug=is_debugging(ctx))
