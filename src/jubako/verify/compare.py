"""Two outputs compared: files, symbolic links, or directories entry by entry. The way in.

    compare("published.csv", "recomputed.csv", Rules(Tolerance(relative=1e-9)))

The bytes come first: most outputs that are made again are the same, and then nothing has to be understood. Modes,
owners and times are not compared.
"""

from __future__ import annotations

import os
import stat

from jubako.errors import JubakoError
from jubako.records import field, record, replace
from jubako.verify.comparators import find_comparator, load_kind
from jubako.verify.content import File
from jubako.verify.findings import Comparison, Difference, Findings, Incomparable, Unreadable, Verdict
from jubako.verify.plain import are_equal, looks_like_text
from jubako.verify.tolerance import EXACT, Tolerance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from jubako.verify.comparators import Comparator

__all__ = ["Rules", "compare", "worst"]

_NOTES = 20  # of a directory
_WORST_FIRST: tuple[Verdict, ...] = ("different", "cannot", "within", "same")


@record
class Rules:
    """How outputs are compared. `comparators`: patterns of file names, each with a kind ("csv") or a function;
    `ignore`: columns, members ("made_at") or paths ("$.runs[*].made_at") that may be anything.
    """

    tolerance: Tolerance = EXACT
    comparators: Mapping[str, str | Comparator] = field(default_factory=dict)
    ignore: Collection[str] = ()


def compare(published: str, recomputed: str, rules: Rules | None = None, *, name: str = "") -> Comparison:
    """What the files or directories at two paths have in common. `name` says what they are, if not the first path.

    Changes nothing, follows no links, unpickles nothing. Memory does not grow with the size of files but for JSON, of
    which a text of at most 128 MiB is read as one value.
    """
    rules = rules or Rules()
    kinds = [_kind_of(path) for path in (published, recomputed)]
    if kinds[0] != kinds[1] or kinds[0] == "":
        return _tell("kind", "", *kinds)
    if kinds[0] == "a directory":
        return _compare_directories(published, recomputed, rules)
    if kinds[0] == "a symbolic link":
        links = [os.readlink(path) for path in (published, recomputed)]
        return Comparison("same", "link") if links[0] == links[1] else _tell("link", "where it points to", *links)
    if kinds[0] != "a file":
        return Comparison("cannot", "kind", reason=f"it is {kinds[0]}")
    name = name or published
    return _compare_files(File(published, name), File(recomputed, name), rules)


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The one that stands for all: different, cannot, within, same."""
    return next((verdict for verdict in _WORST_FIRST if verdict in verdicts), "same")


def _compare_files(one: File, other: File, rules: Rules) -> Comparison:
    try:
        if are_equal(one, other):
            return Comparison("same", "bytes")
        known = find_comparator(one.known_as, rules.comparators)
        if known is not None:
            how, function = known
            try:
                return _note_bytes(_run(how, function, one, other, rules))
            except Unreadable as error:
                return _compare_unread(one, other, f"compared as {{}}: {error}")
        return _compare_unread(one, other, "")
    except Incomparable as error:
        return Comparison("cannot", "", reason=str(error))


def _run(how: str, function: Comparator, one: File, other: File, rules: Rules) -> Comparison:
    findings = Findings(rules.tolerance, frozenset(rules.ignore))
    try:
        function(one, other, findings)
    except (Unreadable, Incomparable):
        raise
    except JubakoError as error:
        raise Incomparable(f"{how}: {error.message}") from error
    except Exception as error:  # a comparator may be anybody's code
        raise Incomparable(f"{how} raised {type(error).__name__}: {error}") from error
    return findings.conclude(how)


def _compare_unread(one: File, other: File, note: str) -> Comparison:
    """Files of which nothing is known, or that are not what they are called: as text or bytes."""
    try:
        how = "text" if looks_like_text(one) and looks_like_text(other) else "bytes"
        comparison = _run(how, load_kind(how), one, other, Rules())
    except Unreadable as error:  # not even compressed as the name says
        one, other = replace(one, name="-"), replace(other, name="-")
        note, how = note or f"compared as {{}}: {error}", "bytes"
        comparison = _run(how, load_kind(how), one, other, Rules())
    notes = (note.format(how),) if note else ()
    return _note_bytes(replace(comparison, notes=(*notes, *comparison.notes)))


def _note_bytes(comparison: Comparison) -> Comparison:
    """Says so where the bytes differ and what they mean does not."""
    if comparison.verdict != "same" or comparison.notes:
        return comparison
    return replace(comparison, notes=("the same contents in other bytes",))


def _compare_directories(published: str, recomputed: str, rules: Rules) -> Comparison:
    """All entries of both, by name. Walks with a list, so depth costs nothing."""
    first: Difference | None = None
    verdicts: list[Verdict] = []
    differing, is_counted, within, reason = 0, True, 0, ""
    largest = None
    notes: dict[str, None] = {}
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            names = [sorted(os.listdir(os.path.join(top, folder))) for top in (published, recomputed)]
        except OSError as error:
            return Comparison("cannot", "directory", reason=f"{folder or published} cannot be read: {error.strerror}")
        below: list[str] = []
        for name in sorted({*names[0], *names[1]}):
            entry = os.path.join(folder, name)
            paths = [os.path.join(top, entry) for top in (published, recomputed)]
            if all(_kind_of(path) == "a directory" for path in paths):
                below.append(entry)
                continue
            found = compare(paths[0], paths[1], rules, name=entry)
            verdicts.append(found.verdict)
            notes.update(dict.fromkeys(f"{entry}: {note}" for note in found.notes))
            within += found.within
            if found.first is not None:
                first = first or replace(found.first, file=entry)
                differing += found.differing or 1
                is_counted &= found.differing is not None
            if found.largest is not None and (largest is None or found.largest.absolute > largest.absolute):
                largest = replace(found.largest, file=entry)
            reason = reason or (f"{entry}: {found.reason}" if found.reason else "")
        waiting += reversed(below)
    verdict = worst(verdicts)
    return Comparison(
        verdict,
        "directory",
        first=first,
        differing=differing if is_counted else None,
        within=within,
        largest=largest,
        notes=tuple(notes)[:_NOTES],
        reason=reason if verdict == "cannot" else "",
    )


def _kind_of(path: str) -> str:
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if stat.S_ISREG(mode):
        return "a file"
    if stat.S_ISDIR(mode):
        return "a directory"
    return "a symbolic link" if stat.S_ISLNK(mode) else "something that is no file"


def _tell(how: str, where: str, published: str, recomputed: str) -> Comparison:
    return Comparison("different", how, first=Difference(where, published, recomputed), differing=1)
