"""What `jubako doctor` does: tries what boxes and publishing need on this host, and prints what came of it."""

from __future__ import annotations

import os

from jubako.boxes.nesting import MARK
from jubako.boxes.state import find_network_type, find_state_root
from jubako.cli.document import Document
from jubako.cli.exits import EXIT_HOST
from jubako.cli.formats import echo_document
from jubako.cli.terminal import echo, printable, style
from jubako.kernel.host.ability import Ability
from jubako.kernel.host.examine import examine_host
from jubako.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.cli.document import Format
    from jubako.kernel.host.ability import HostReport

__all__ = ["report_host"]

_COLOURS = {"yes": "green", "limited": "yellow", "no": "red"}
_WIDTH_OF_VERDICT = len("limited")


def report_host(format_: Format) -> int:
    """Prints what this host can do; the exit code, 0 if boxes work here."""
    report = _examine_host()
    if format_ == "table":
        width = max(len(printable(one.name)) for one in report.abilities)
        for ability in report.abilities:
            _echo_ability(ability, width)
    else:
        echo_document(_document_of(report), format_)
    return 0 if report.can_box else EXIT_HOST


def _examine_host() -> HostReport:
    state = find_state_root(os.environ, os.path.expanduser("~"))
    box_id = os.environ.get(MARK, "")
    kept = {"state folder": state, "working folder": os.getcwd()}
    if box_id and not os.access(state, os.W_OK):  # hidden, as it is in every box
        del kept["state folder"]
    report = examine_host(
        kept,
        {"temporary folder": os.environ.get("TMPDIR") or "/tmp"},
        environment=os.environ,
        box_id=box_id,
    )
    if not report.kernel_release:  # no Linux, so no mount table to look into either
        return report
    if network := find_network_type(os.path.realpath(state)):
        refused = Ability(
            "files",
            "ledger",
            "no",
            f"{state} is on {network}, where locks and SQLite do not hold between machines",
            "the journal of what is being published is a database there",
            "set JUBAKO_STATE to a directory of yours on a local disk",
        )
        return replace(report, abilities=(*report.abilities, refused))
    return report


def _echo_ability(ability: Ability, width: int) -> None:
    """A line for what works, with its use; for what lacks something, lines below say what for, and the cure."""
    verdict = style(ability.verdict.ljust(_WIDTH_OF_VERDICT), _COLOURS[ability.verdict])
    line = f"{verdict}  {printable(ability.name).ljust(width)}  {printable(ability.meaning)}"
    if ability.verdict == "yes":
        echo(f"{line}{style(f' · {printable(ability.why)}', 'grey', bold=False)}")
        return
    echo(line)
    indent = " " * (_WIDTH_OF_VERDICT + width + 4)
    echo(f"{indent}why: {printable(ability.why)}")
    if ability.cure:
        echo(f"{indent}cure: {printable(ability.cure)}")


def _document_of(report: HostReport) -> Document:
    return Document(
        schema="jubako.doctor/1",
        columns=("about", "ability", "here", "meaning", "why", "cure"),
        rows=[
            {
                "about": one.about,
                "ability": one.name,
                "here": one.verdict,
                "meaning": one.meaning,
                "why": one.why,
                "cure": one.cure,
            }
            for one in report.abilities
        ],
        facts={
            "kernel": report.kernel_release,
            "machine": report.machine,
            "root": report.is_root,
            "boxes": report.can_box,
            "container": report.container,
        },
        rows_are="abilities",
    )
