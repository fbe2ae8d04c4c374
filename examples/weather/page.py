"""The year as one HTML page that needs nothing else: a calendar heat map per city, the monthly table, what is missing.

The page is also well-formed XML, so that a check can read it back with the standard library.
"""

from __future__ import annotations

from calendar import month_abbr, month_name
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from html import escape
from typing import Any
from xml.etree import ElementTree

Summary = Mapping[str, Any]

# Cold to warm. Lightness rises steadily, so the order survives a grey print and most colour blindness.
STOPS = ("#3b3a8f", "#3560a8", "#3c87a8", "#5fb28f", "#b3cf6a", "#f5d75c", "#f9a03f", "#e4572e")

CELL, GAP = 17, 3
PITCH = CELL + GAP
LEFT, TOP = 40, 24

STYLE = """
:root { --page: #fbfaf7; --card: #ffffff; --ink: #1d2129; --soft: #5b6472; --line: #e4e2dc; --empty: #eceae4;
  --flag: #c0392b; color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14161b; --card: #1c1f26; --ink: #eceef2; --soft: #9aa3b2; --line: #2d323c; --empty: #262a33;
    --flag: #ff8a75; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue",
  Arial, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 40px 24px 56px; }
h1 { font-size: 34px; line-height: 1.15; letter-spacing: -0.02em; margin: 0 0 6px; }
h2 { font-size: 19px; margin: 0 0 12px; letter-spacing: -0.01em; }
.lead, .note { color: var(--soft); margin: 0; }
.lead { font-size: 17px; margin-bottom: 28px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 22px 24px;
  margin-bottom: 20px; }
section header { display: flex; justify-content: space-between; align-items: baseline; gap: 16px; flex-wrap: wrap; }
dl.facts { display: flex; gap: 28px; margin: 0 0 12px; flex-wrap: wrap; }
dl.facts div { display: flex; gap: 7px; align-items: baseline; }
dl.facts dt { color: var(--soft); font-size: 13px; }
dl.facts dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
.scroll > svg { display: block; }
svg text { fill: var(--soft); font: 12px system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
svg .gap { fill: none; stroke: var(--flag); stroke-width: 2; }
svg .months { fill: none; stroke: var(--ink); stroke-width: 1; opacity: 0.45; }
svg .empty { fill: var(--empty); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { color: var(--soft); font-weight: 500; font-size: 13px; }
thead tr:first-child th { color: var(--ink); font-weight: 600; font-size: 15px; text-align: left; border-bottom: 0; }
tbody th { text-align: left; font-weight: 500; }
tbody tr:last-child th, tbody tr:last-child td { border-bottom: 0; }
th.city, td.first { padding-left: 28px; }
td.range { width: 190px; }
.missing { color: var(--flag); font-weight: 600; }
ul.gaps { margin: 0; padding: 0; list-style: none; }
ul.gaps li { padding: 5px 0; border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
ul.gaps li:last-child { border-bottom: 0; }
footer { color: var(--soft); font-size: 13px; }
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a page shows, read back from it."""

    days: dict[str, list[str]]  # city -> the days that have a square
    months: dict[tuple[str, str], tuple[int, int, *tuple[float | None, ...]]]  # hours, missing; min, mean, max
    missing: set[tuple[str, str]]  # (hour, city)


def render(year: int, unit: str, months: Sequence[Summary]) -> str:
    """The page. `months` are the year's monthly summaries in order, each with its days."""
    cities = list(months[0]["cities"])
    days = {city: {day["date"]: day["cities"][city] for month in months for day in month["days"]} for city in cities}
    known = [summary for of_city in days.values() for summary in of_city.values() if summary["mean"] is not None]
    if not known:
        raise ValueError(f"there is no reading of {year}")
    low = min(summary["mean"] for summary in known)
    high = max(summary["mean"] for summary in known)
    gaps = [(hour, city) for city in cities for month in months for hour in month["cities"][city]["hours_missing"]]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en" xmlns="http://www.w3.org/1999/xhtml">',
            "<head>",
            '<meta charset="utf-8" />',
            '<meta name="viewport" content="width=device-width, initial-scale=1" />',
            f"<title>{year}, hour by hour: {escape(' and '.join(cities))}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body><main>",
            f"<h1>{year}, hour by hour</h1>",
            f'<p class="lead">{escape(" and ".join(cities))}: the mean temperature of every day, in {unit}.</p>',
            *(line for city in cities for line in _city(year, unit, city, months, days[city], (low, high))),
            *_monthly_table(unit, cities, months, (low, high)),
            *_missing_hours(year, gaps),
            "<footer>Data: NOAA hourly normals, dated 2010; public domain. Every figure was checked against the raw "
            "rows before this page was published.</footer>",
            "</main></body>",
            "</html>",
            "",
        ]
    )


def read_back(root: ElementTree.Element) -> Shown:
    """What the page whose root element this is shows."""
    html, svg = "{http://www.w3.org/1999/xhtml}", "{http://www.w3.org/2000/svg}"
    cities = [cell.text or "" for cell in root.iter(f"{html}th") if cell.get("class") == "city" and cell.get("colspan")]
    calendars = [picture for picture in root.iter(f"{svg}svg") if picture.get("role") == "img"]
    months = {}
    for row in root.iter(f"{html}tr"):
        if month := row.get("data-month"):
            cells = [cell.text or "" for cell in row.iter(f"{html}td") if cell.get("class") != "range"]
            for city, (hours, missing, *figures) in zip(cities, zip(*[iter(cells)] * 5, strict=True), strict=True):
                shown = (None if figure == "–" else float(figure) for figure in figures)
                months[month, city] = (int(hours), int(missing), *shown)
    return Shown(
        days={
            city: [day for square in calendar.iter(f"{svg}rect") if (day := square.get("data-day"))]
            for city, calendar in zip(cities, calendars, strict=True)
        },
        months=months,
        missing={
            (hour, item.get("data-city") or "") for item in root.iter(f"{html}li") if (hour := item.get("data-hour"))
        },
    )


def _city(
    year: int,
    unit: str,
    city: str,
    months: Sequence[Summary],
    days: Mapping[str, Summary],
    scale: tuple[float, float],
) -> Iterator[str]:
    ours = [month["cities"][city] for month in months]
    present = sum(month["hours_present"] for month in ours)
    missing = sum(len(month["hours_missing"]) for month in ours)
    coldest = min(month["min"] for month in ours if month["min"] is not None)
    warmest = max(month["max"] for month in ours if month["max"] is not None)
    mean = sum(month["sum"] for month in ours if month["sum"] is not None) / present
    yield f"<section><header><h2>{escape(city)}</h2>"
    yield '<dl class="facts">'
    for name, value in (
        ("coldest hour", f"{coldest:.1f} {unit}"),
        ("mean", f"{mean:.1f} {unit}"),
        ("warmest hour", f"{warmest:.1f} {unit}"),
        ("hours", f"{present:,}"),
    ):
        yield f"<div><dt>{name}</dt><dd>{value}</dd></div>"
    flag = ' class="missing"' if missing else ""
    yield f"<div><dt>missing</dt><dd{flag}>{missing}</dd></div>"
    yield "</dl></header>"
    yield '<div class="scroll">'
    yield from _calendar(year, unit, city, days, scale)
    yield "</div></section>"


def _calendar(
    year: int, unit: str, city: str, days: Mapping[str, Summary], scale: tuple[float, float]
) -> Iterator[str]:
    """Weeks are columns, Monday on top; one square a day, months apart by a line."""
    low, high = scale
    first = date(year, 1, 1)
    monday = first - timedelta(days=first.weekday())
    weeks = (date(year, 12, 31) - monday).days // 7 + 1
    width, height = LEFT + weeks * PITCH, TOP + 7 * PITCH + 42
    name = f"{city}-calendar".lower().replace(" ", "-")
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-labelledby="{name}-title {name}-desc">'
    )
    yield f'<title id="{name}-title">Daily mean temperature in {escape(city)}, {year}</title>'
    yield (
        f'<desc id="{name}-desc">A calendar with one square for each day; the colours go from {low:.0f} to {high:.0f} '
        f"{unit}. A day with missing hours has a red border.</desc>"
    )
    for weekday, label in ((0, "Mon"), (2, "Wed"), (4, "Fri"), (6, "Sun")):
        yield f'<text x="0" y="{TOP + weekday * PITCH + 13}">{label}</text>'
    for month in range(1, 13):
        week, weekday = divmod((date(year, month, 1) - monday).days, 7)
        yield f'<text x="{LEFT + (week + (weekday > 3)) * PITCH}" y="14">{month_abbr[month]}</text>'
        if month > 1:
            x, y = LEFT + week * PITCH - GAP / 2, TOP + weekday * PITCH - GAP / 2
            step = f"M{x + PITCH} {TOP - GAP}V{y}H{x}" if weekday else f"M{x} {y}"
            yield f'<path class="months" d="{step}V{TOP + 7 * PITCH}" />'
    day = first
    while day.year == year:
        week, weekday = divmod((day - monday).days, 7)
        yield _square(LEFT + week * PITCH, TOP + weekday * PITCH, day, unit, days.get(day.isoformat()), scale)
        day += timedelta(days=1)
    yield from _legend(width, TOP + 7 * PITCH + 12, unit, scale, name)
    yield "</svg>"


def _square(x: int, y: int, day: date, unit: str, summary: Summary | None, scale: tuple[float, float]) -> str:
    place = f'x="{x}" y="{y}" width="{CELL}" height="{CELL}" rx="3"'
    label = f"{day:%a} {day.day} {day:%b %Y}"
    if summary is None or summary["mean"] is None:
        return f'<rect class="empty" data-day="{day}" {place}><title>{label}: no readings</title></rect>'
    fill = colour(share_of(summary["mean"], scale))
    text = f"{label}: mean {summary['mean']:.1f} {unit}, {summary['min']:.1f} to {summary['max']:.1f}"
    square = f'<rect data-day="{day}" fill="{fill}" {place}><title>{text}</title></rect>'
    if summary["hours_missing"]:
        hours = len(summary["hours_missing"])
        note = f"{text}, {hours} hour{'s' if hours > 1 else ''} missing"
        square = square.replace(f"<title>{text}<", f"<title>{note}<")
        square += f'<rect class="gap" x="{x - 1}" y="{y - 1}" width="{CELL + 2}" height="{CELL + 2}" rx="4" />'
    return square


def _legend(width: int, y: int, unit: str, scale: tuple[float, float], name: str) -> Iterator[str]:
    """The colour scale with its ends and the middle in figures, right-aligned under the calendar."""
    low, high = scale
    long, left = 240, width - 240 - 44
    yield f'<linearGradient id="{name}-scale">'
    for index, stop in enumerate(STOPS):
        yield f'<stop offset="{index / (len(STOPS) - 1):.4f}" stop-color="{stop}" />'
    yield "</linearGradient>"
    yield f'<rect class="gap" x="{LEFT + 1}" y="{y}" width="12" height="12" rx="3" />'
    yield f'<text x="{LEFT + 20}" y="{y + 11}">a day with missing hours</text>'
    yield f'<text x="{left - 8}" y="{y + 11}" text-anchor="end">daily mean, {unit}</text>'
    yield f'<rect x="{left}" y="{y}" width="{long}" height="12" rx="3" fill="url(#{name}-scale)" />'
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = left + share * long
        yield f'<text x="{x:.0f}" y="{y + 27}" text-anchor="middle">{low + share * (high - low):.0f}</text>'


def share_of(value: float, scale: tuple[float, float]) -> float:
    """How far `value` is from the low to the high end of the scale, 0 to 1; the middle where the two are one."""
    low, high = scale
    return (value - low) / (high - low) if high > low else 0.5


def colour(share: float) -> str:
    """The colour at `share` of the way from the coldest to the warmest day."""
    place = min(max(share, 0.0), 1.0) * (len(STOPS) - 1)
    left = min(int(place), len(STOPS) - 2)
    ends = [[int(STOPS[left + i][k : k + 2], 16) for k in (1, 3, 5)] for i in (0, 1)]
    return "#" + "".join(f"{round(a + (b - a) * (place - left)):02x}" for a, b in zip(*ends, strict=True))


def _monthly_table(
    unit: str, cities: Sequence[str], months: Sequence[Summary], scale: tuple[float, float]
) -> Iterator[str]:
    ours = [month["cities"][city] for month in months for city in cities]
    low = min(summary["min"] for summary in ours if summary["min"] is not None)
    high = max(summary["max"] for summary in ours if summary["max"] is not None)
    yield f'<section><h2>Month by month, {unit}</h2><div class="scroll"><table>'
    yield "<thead><tr><th></th>"
    yield from (f'<th class="city" colspan="6" scope="colgroup">{escape(city)}</th>' for city in cities)
    yield "</tr><tr><th></th>"
    for _ in cities:
        yield '<th class="city">hours</th><th>missing</th><th>min</th><th>mean</th><th>max</th><th></th>'
    yield "</tr></thead><tbody>"
    for month in months:
        yield f'<tr data-month="{month["month"]}"><th scope="row">{month_name[int(month["month"][5:])]}</th>'
        for city in cities:
            yield from _month_cells(month["cities"][city], (low, high), scale)
        yield "</tr>"
    yield "</tbody></table></div></section>"


def _month_cells(summary: Summary, span: tuple[float, float], scale: tuple[float, float]) -> Iterator[str]:
    """Five figures and a bar from the coldest to the warmest hour, in the calendar's colour for the mean."""
    missing = len(summary["hours_missing"])
    yield f'<td class="first">{summary["hours_present"]}</td>'
    yield f'<td class="missing">{missing}</td>' if missing else "<td>0</td>"
    if summary["mean"] is None:
        yield '<td>–</td><td>–</td><td>–</td><td class="range"></td>'
        return
    yield from (f"<td>{summary[name]:.1f}</td>" for name in ("min", "mean", "max"))
    long = 168
    ends = [share_of(summary[name], span) * long for name in ("min", "mean", "max")]
    fill = colour(share_of(summary["mean"], scale))
    yield (
        f'<td class="range"><svg xmlns="http://www.w3.org/2000/svg" width="{long + 8}" height="14" aria-hidden="true">'
        f'<rect x="0" y="6" width="{long + 8}" height="2" rx="1" class="empty" />'
        f'<rect x="{ends[0]:.1f}" y="3" width="{max(ends[2] - ends[0], 1) + 8:.1f}" height="8" rx="4" fill="{fill}" />'
        f'<circle cx="{ends[1] + 4:.1f}" cy="7" r="2.5" fill="#ffffff" /></svg></td>'
    )


def _missing_hours(year: int, gaps: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield "<section><h2>Missing hours</h2>"
    if gaps:
        yield '<ul class="gaps">'
        for hour, city in sorted(gaps):
            yield f'<li data-hour="{hour}" data-city="{escape(city)}">{hour.replace("T", " ")} · {escape(city)}</li>'
        yield "</ul>"
    else:
        yield f'<p class="note">None: every hour of {year} was there.</p>'
    yield "</section>"
