"""Which metrics there are. Labels name pipelines, task families and outcomes, never parameters: their number is that of
what was written, not of what was run.
"""

from __future__ import annotations

from typing import Final, Literal

from jubako.records import record

__all__ = ["METRICS", "Metric", "find_metric"]

Kind = Literal["counter", "gauge", "histogram"]


@record
class Metric:
    """One metric. Samples of a histogram have its name and a suffix."""

    name: str
    kind: Kind
    about: str
    buckets: tuple[float, ...] = ()


_TASK_S: Final = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21_600.0)
_RUN_S: Final = (1.0, 10.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0)

METRICS: Final = (
    Metric("jubako_runs_total", "counter", "Runs that have ended, by how."),
    Metric("jubako_run_ended_timestamp_seconds", "gauge", "When a run has last ended so, in seconds since 1970."),
    Metric("jubako_run_duration_seconds", "histogram", "How long runs took.", _RUN_S),
    Metric("jubako_tasks_total", "counter", "Tasks that runs met, by what they came to."),
    Metric("jubako_task_attempts_total", "counter", "Attempts at tasks that have ended, by how."),
    Metric("jubako_task_duration_seconds", "histogram", "How long attempts took that made a task.", _TASK_S),
    Metric("jubako_schedule_firings_total", "counter", "Firings of schedules, by what became of them."),
    Metric("jubako_schedule_running", "gauge", "Runs that a schedule has started and that go on."),
    Metric("jubako_schedule_next_timestamp_seconds", "gauge", "When a schedule fires next, in seconds since 1970."),
)

_SUFFIXES: Final = ("_bucket", "_sum", "_count")
_BY_NAME: Final = {metric.name: metric for metric in METRICS}
_BY_SAMPLE: Final = {
    **_BY_NAME,
    **{f"{m.name}{suffix}": m for m in METRICS if m.kind == "histogram" for suffix in _SUFFIXES},
}


def find_metric(sample: str) -> Metric | None:
    """The metric that a sample of this name belongs to."""
    return _BY_SAMPLE.get(sample)
