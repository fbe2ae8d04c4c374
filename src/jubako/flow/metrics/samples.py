"""Numbers by name and labels: they add up, and have a text that Prometheus reads and so do we. Pure.

    # HELP jubako_runs_total Runs that have ended, by how.
    # TYPE jubako_runs_total counter
    jubako_runs_total{outcome="success",pipeline="/data/pipeline.py"} 12

Counters and histograms add up; of a gauge, here always a moment, the later one counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from jubako.flow.metrics.catalogue import METRICS, find_metric

__all__ = ["Samples", "SamplesError"]

Labels = tuple[tuple[str, str], ...]  # in the order of their names

_MOST_SERIES: Final = 1_000  # families of tasks, over all pipelines; more than anybody writes
_OTHER: Final = "(other)"
_LINE: Final = re.compile(r"([a-z_]+)(?:\{(.*)\})? (\S+)")
_LABEL: Final = re.compile(r'([a-z_]+)="((?:[^"\\]|\\["\\n])*)"(?:,|$)')
_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}


class SamplesError(Exception):
    """A text is none of ours; the exception says which line."""


class Samples:
    """Numbers by name and labels."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, Labels], float] = {}

    def __bool__(self) -> bool:
        return bool(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Samples) and self._values == other._values

    __hash__ = None  # type: ignore[assignment]

    def count(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        """Adds to a counter."""
        key = name, _key(labels)
        self._values[key] = self._values.get(key, 0.0) + amount

    def set(self, name: str, value: float, /, **labels: str) -> None:
        """Sets a gauge."""
        self._values[name, _key(labels)] = value

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        """Puts a value into a histogram."""
        metric = find_metric(name)
        for bound in () if metric is None else metric.buckets:
            self.count(f"{name}_bucket", float(value <= bound), **labels, le=_number(bound))
        self.count(f"{name}_bucket", **labels, le="+Inf")
        self.count(f"{name}_sum", value, **labels)
        self.count(f"{name}_count", **labels)

    def add(self, other: Samples) -> None:
        """Adds what another has. Beyond a number of families, all further ones are counted as one."""
        known = {_series(labels) for _, labels in self._values}
        for (name, labels), value in other._values.items():
            series = _series(labels)
            if series not in known and len(known) < _MOST_SERIES:
                known.add(series)
            metric, key = find_metric(name), (name, labels if series in known else _as_other(labels))
            if metric is not None and metric.kind == "gauge":
                self._values[key] = max(value, self._values.get(key, value))
            else:
                self._values[key] = self._values.get(key, 0.0) + value

    def format(self) -> str:
        """As text, all samples of a metric together."""
        lines: list[str] = []
        by_metric: dict[str, list[tuple[str, Labels]]] = {}
        for name, labels in self._values:
            metric = find_metric(name)
            by_metric.setdefault(name if metric is None else metric.name, []).append((name, labels))
        for metric in METRICS:
            if metric.name in by_metric:
                lines.append(f"# HELP {metric.name} {metric.about}")
                lines.append(f"# TYPE {metric.name} {metric.kind}")
                for name, labels in sorted(by_metric[metric.name], key=_order):
                    lines.append(f"{name}{_format_labels(labels)} {_number(self._values[name, labels])}")
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> Samples:
        """What `format` has written. SamplesError if it has not."""
        found = cls()
        for number, line in enumerate(text.split("\n"), start=1):
            if line and not line.startswith("#"):
                try:
                    name, labels, value = _parse_line(line)
                except ValueError as error:
                    raise SamplesError(f"line {number} is no sample of jubako's") from error
                found._values[name, labels] = value
        return found


def _parse_line(line: str) -> tuple[str, Labels, float]:
    match = _LINE.fullmatch(line)
    if match is None or find_metric(match[1]) is None:
        raise ValueError(line)
    return match[1], tuple(sorted(_parse_labels(match[2] or ""))), float(match[3])


def _parse_labels(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(text):
        match = _LABEL.match(text, place)
        if match is None:
            raise ValueError(text)
        yield match[1], re.sub(r"\\(.)", lambda escape: "\n" if escape[1] == "n" else escape[1], match[2])
        place = match.end()


def _key(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _series(labels: Labels) -> tuple[str | None, str | None]:
    """What there may be many of: a pipeline, and a family of it."""
    found = dict(labels)
    return found.get("pipeline"), found.get("family")


def _as_other(labels: Labels) -> Labels:
    return tuple((name, _OTHER if name in ("family", "pipeline") else value) for name, value in labels)


def _order(sample: tuple[str, Labels]) -> tuple[object, ...]:
    """Samples of one histogram stay together, its buckets from small to large."""
    name, labels = sample
    rest = tuple(each for each in labels if each[0] != "le")
    le = dict(labels).get("le", "+Inf")
    return rest, not name.endswith("_bucket"), float(le), not name.endswith("_sum"), name


def _format_labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}"


def _escape(value: str) -> str:
    text = value.encode("utf-8", "replace").decode("utf-8")  # a name of a file may not be UTF-8
    return "".join(_ESCAPES.get(c, c) for c in text)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
