"""What `jubako doctor` does: tries what boxes and publishing need on this host, and prints what came of it."""

from __future__ import annotations

import os

from jubako.boxes.nesting import refuse_nesting
from jubako.boxes.state import find_network_type, find_state_root
from jubako.cli.document import Document
from jubako.cli.exits import EXIT_HOST
from jubako.cli.formats import echo_document
from jubako.cli.terminal import echo, printable, style
from jubako.kernel.probe import Ability, probe_host
from jubako.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.cli.document import Format
    from jubako.kernel.probe import HostReport

__all__ = ["report_host"]

_COLOURS = {"yes": "green", "limited": "yellow", "no": "red"}
_WIDTH_OF_VERDICT = len("limited")


def report_host(format_: Format) -> int:
    """Prints what this host can do; the exit code, 0 if boxes work here. HostError inside a box."""
    refuse_nesting("what this host can do cannot be tried inside a box", hint="Run 'jubako doctor' outside of it.")
    report = _examine_host()
    if format_ == "table":
        for ability in report.abilities:
            _echo_ability(ability, max(len(one.name) for one in report.abilities))
    else:
        echo_document(_document_of(report), format_)
    return 0 if report.can_box else EXIT_HOST


def _examine_host() -> HostReport:
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
    verdict = style(ability.verdict.ljust(_WIDTH_OF_VERDICT), _COLOURS[ability.verdict])
    echo(f"{verdict}  {printable(ability.name).ljust(width)}  {printable(ability.meaning)}")
    if ability.cure:
        echo(f"{' ' * (_WIDTH_OF_VERDICT + width + 4)}cure: {printable(ability.cure)}")


def _document_of(report: HostReport) -> Document:
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
