"""Tells click of options that are kept as values (`cli.line`), so that there is no second description of them."""

from __future__ import annotations

import click

from jubako.cli.formats import FORMAT_OPTION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from jubako.cli.line import Option

    Command = TypeVar("Command", bound=Callable[..., Any])

__all__ = ["declare", "format_option"]


def declare(*options: Option) -> Callable[[Command], Command]:
    """Gives a command these options, to be listed by its help in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = _click_option(option)(command)
        return command

    return decorate


def _click_option(option: Option) -> Callable[[Command], Command]:
    short = (option.short,) if option.short else ()
    if option.takes == "nothing":
        names = (*short, "/".join(option.names), option.parameter)
        return click.option(*names, is_flag=True, default=option.default, help=option.help)
    return click.option(
        *short,
        *option.names,
        option.parameter,
        metavar=option.metavar,
        type=click.Choice(option.choices) if option.choices else click.Path(),
        default=option.default,
        multiple=option.takes == "values",
        help=option.help,
    )


format_option = declare(FORMAT_OPTION)  # `--format table|json|csv|yaml`, passed as `format_`
