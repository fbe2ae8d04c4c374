"""`jubako doctor`: what this host can do, what that means, and the cure for what it cannot."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from jubako.cli.formats import Format, format_option
from jubako.records import replace

if TYPE_CHECKING:
    from jubako.cli.formats import Document
    from jubako.kernel.probe import Ability, HostReport

__all__ = ["doctor"]

_EPILOG = """\b
Examples:
  jubako doctor
  jubako doctor --format json | jq '.abilities[] | select(.here == "no")'

Exit codes: 0 boxes work on this host, 3 they don't."""

_COLOURS = {"yes": "green", "limited": "yellow", "no": "red"}
_WIDTH_OF_VERDICT = len("limited")


@click.command(epilog=_EPILOG)
@format_option
@click.pass_context
def doctor(context: click.Context, format_: Format) -> None:
    """Try what boxes and publishing need on this host, and say what is missing and how to get it.

    Everything is tried for real and leaves nothing behind.
    """
    from jubako.cli.formats import echo_document
    from jubako.cli.main import EXIT_HOST

    report = _examine_host()
    if format_ == "table":
        for ability in report.abilities:
            _echo_ability(ability, max(len(one.name) for one in report.abilities))
    else:
        echo_document(_document_of(report), format_)
    context.exit(0 if report.can_box else EXIT_HOST)


def _examine_host() -> HostReport:
    from jubako.boxes.state import find_network_type, find_state_root
    from jubako.kernel.probe import Ability, probe_host

    state = find_state_root(os.environ, os.path.expanduser("~"))
    report = probe_host(
        {"state folder": state, "working folder": os.getcwd()},
        {"temporary folder": os.environ.get("TMPDIR") or "/tmp"},
        environment_path=os.environ.get("PATH", os.defpath),
    )
    if not report.kernel_release:  # no Linux, so no mount table to look into either
        return report
    if network := find_network_type(os.path.realpath(state)):
        refused = Ability(
            "ledger",
            "no",
            f"{state} is on {network}, where locks and SQLite do not hold between machines",
            "set JUBAKO_STATE to a directory of yours on a local disk",
        )
        return replace(report, abilities=(*report.abilities, refused))
    return report


def _echo_ability(ability: Ability, width: int) -> None:
    from jubako.cli.formats import printable

    verdict = click.style(ability.verdict.ljust(_WIDTH_OF_VERDICT), fg=_COLOURS[ability.verdict], bold=True)
    click.echo(f"{verdict}  {printable(ability.name).ljust(width)}  {printable(ability.meaning)}")
    if ability.cure:
        click.echo(f"{' ' * (_WIDTH_OF_VERDICT + width + 4)}cure: {printable(ability.cure)}")


def _document_of(report: HostReport) -> Document:
    from jubako.cli.formats import Document

    return Document(
        schema="jubako.doctor/1",
        columns=("ability", "here", "meaning", "cure"),
        rows=[
            {"ability": one.name, "here": one.verdict, "meaning": one.meaning, "cure": one.cure}
            for one in report.abilities
        ],
        facts={
            "kernel": report.kernel_release,
            "machine": report.machine,
            "root": report.is_root,
            "boxes": report.can_box,
        },
        rows_are="abilities",
    )
