"""Comparisons and claims, put together: in words, as data, and as one page that needs nothing else.

    report = Report("Means of March", [*map(entry_of_claim, claims), entry_of_comparison("means.csv", comparison)])
    print(report.to_text())
    report.write_html("march.html")
    report.require()      # an error that names what does not hold

The page holds no script and loads nothing; it is one file to keep beside what was verified.
"""

from __future__ import annotations

from collections import Counter

from jubako.errors import WorkError
from jubako.records import field, record
from jubako.verify.publishing import publishing
from jubako.verify.tolerance import distance

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from jubako.verify.claims import Claim
    from jubako.verify.findings import Comparison, Verdict

__all__ = ["Entry", "Report", "entry_of_claim", "entry_of_comparison"]

_WORDS: dict[Verdict, str] = {
    "same": "same",
    "within": "within tolerance",
    "different": "different",
    "cannot": "cannot be compared",
}
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
_MARK = b'<meta name="generator" content="jubako verify">'


@record
class Entry:
    """One thing that was verified. `sentence` says what the verdict rests on, `details` are facts for programs."""

    what: str
    verdict: Verdict
    sentence: str = ""
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """True for same and within."""
        return self.verdict in ("same", "within")


@record
class Report:
    """What a verification came to. True if everything agrees, and there is something.

    `facts` are about the whole, name and value.
    """

    title: str
    entries: Sequence[Entry]
    facts: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.entries) and all(entry.agrees for entry in self.entries)

    def describe(self) -> str:
        """ "18 verified = 17 same + 1 different"."""
        counted = Counter(entry.verdict for entry in self.entries)
        parts = " + ".join(f"{counted[verdict]:,} {word}" for verdict, word in _WORDS.items() if counted[verdict])
        return f"{len(self.entries):,} verified{' = ' if parts else ''}{parts}"

    def to_text(self) -> str:
        """A line for each, what does not agree first, and what it came to."""
        width = max((len(entry.verdict) for entry in self.entries), default=0)
        lines = [f"{entry.verdict:<{width}}  {_line_of(entry)}" for entry in self._worst_first()]
        return "\n".join([self.title, *lines, self.describe()]) + "\n"

    def to_json(self) -> dict[str, object]:
        """For programs; schema jubako.verify.report/1."""
        return {
            "schema": "jubako.verify.report/1",
            "title": self.title,
            "agrees": bool(self),
            "facts": dict(self.facts),
            "entries": [
                {"what": each.what, "verdict": each.verdict, "sentence": each.sentence or None, **each.details}
                for each in self.entries
            ],
        }

    def to_html(self) -> str:
        """The page."""
        facts = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in self.facts.items())
        rows = "\n".join(map(_row_of, self._worst_first()))
        outcome = "agrees" if self else "differs"
        return _PAGE.format(
            mark=_MARK.decode(),
            title=_text(self.title),
            style=_STYLE,
            outcome=outcome,
            summary=_text(self.describe()),
            facts=f"<dl>{facts}</dl>" if facts else "",
            rows=rows,
        )

    def write_html(self, path: str | os.PathLike[str]) -> None:
        """Writes the page; it is there whole or not at all. InputError if `path` is something else, HostError."""
        with publishing(path, _MARK, "report of a verification") as file:
            file.write(self.to_html().encode("utf-8", "backslashreplace"))

    def require(self) -> None:
        """WorkError that names everything that does not agree, or says that nothing was verified."""
        broken = [_line_of(entry) for entry in self.entries if not entry.agrees]
        if not self:
            raise WorkError("; ".join(broken) or f"nothing was verified in {self.title}")

    def _worst_first(self) -> list[Entry]:
        return sorted(self.entries, key=lambda entry: entry.agrees)


def entry_of_claim(claim: Claim) -> Entry:
    """A number stated and recomputed."""
    absolute, relative = distance(claim.stated, claim.recomputed)
    details: dict[str, object] = {
        "stated": str(claim.stated),
        "recomputed": str(claim.recomputed),
        "unit": claim.unit or None,
        "off_by": _finite(absolute),
        "off_by_relative": _finite(relative),
        "allowed": claim.tolerance.describe(),
    }
    return Entry(claim.what, claim.verdict, claim.describe().removeprefix(f"{claim.what}: "), details)


def entry_of_comparison(what: str, comparison: Comparison) -> Entry:
    """Two files, or directories."""
    details = {name: value for name, value in comparison.to_json().items() if name != "verdict"}
    return Entry(what, comparison.verdict, comparison.describe(), details)


def _line_of(entry: Entry) -> str:
    return f"{entry.what}: {entry.sentence}" if entry.sentence else entry.what


def _row_of(entry: Entry) -> str:
    word = _text(_WORDS[entry.verdict])
    return (
        f'<tr class="{entry.verdict}"><td><span>{word}</span></td>'
        f"<td>{_text(entry.what)}</td><td>{_text(entry.sentence)}</td></tr>"
    )


def _text(value: str) -> str:
    return value.translate(_ESCAPES)  # a pipeline may have an html.py of its own


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None  # not for NaN either


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{mark}
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class="{outcome}">{summary}</p>
{facts}
<table>
<thead><tr><th scope="col">Verdict</th><th scope="col">What</th><th scope="col">Why</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</main>
</body>
</html>
"""
_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --ground: #fff; --line: #ddd; --soft: #666;
  --good: #17643a; --near: #8a5a00; --bad: #a3201d; --none: #55508a; }
@media (prefers-color-scheme: dark) { :root { --ink: #eee; --ground: #161616; --line: #3a3a3a; --soft: #aaa;
  --good: #6fd39c; --near: #f0c060; --bad: #ff8d85; --none: #b3aef2; } }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2rem 1.5rem; }
h1 { font-size: 1.4rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .25rem 0 1.25rem; font-weight: 600; }
p.agrees { color: var(--good); } p.differs { color: var(--bad); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0 0 1.5rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; color: var(--soft); font-weight: 500; }
th, td { border-bottom: 1px solid var(--line); padding: .45rem .8rem .45rem 0; }
td { vertical-align: top; overflow-wrap: anywhere; }
td:first-child { white-space: nowrap; } td span { font-weight: 600; }
.same span { color: var(--good); } .within span { color: var(--near); }
.different span { color: var(--bad); } .cannot span { color: var(--none); }
"""
