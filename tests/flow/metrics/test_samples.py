"""Numbers with labels: how they add up, and that Prometheus' own parser reads what we write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from jubako.flow.metrics.samples import Samples, SamplesError

VALUES = st.one_of(st.integers(0, 10**12).map(float), st.floats(0, 1e9, allow_nan=False))
TEXTS = st.text(max_size=20)


def parsed(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All samples, as prometheus_client reads them."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@given(st.lists(st.tuples(TEXTS, TEXTS, VALUES), max_size=5))
def test_text_is_read_by_prometheus_and_by_us(counted: list[tuple[str, str, float]]) -> None:
    samples = Samples()
    expected: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for pipeline, family, value in counted:
        samples.count("jubako_tasks_total", value, pipeline=pipeline, family=family, status="done")
        key = "jubako_tasks_total", (("family", family), ("pipeline", pipeline), ("status", "done"))
        expected[key] = expected.get(key, 0.0) + value
    assert parsed(samples.format()) == expected
    assert Samples.parse(samples.format()) == samples


def test_name_that_is_not_utf_8_is_written_all_the_same() -> None:
    samples = Samples()
    samples.count("jubako_runs_total", pipeline="/data/\udcff.py", outcome="success")
    assert parsed(samples.format()) == {
        ("jubako_runs_total", (("outcome", "success"), ("pipeline", "/data/?.py"))): 1.0
    }


def test_histogram_has_cumulative_buckets_a_sum_and_a_count() -> None:
    samples = Samples()
    for seconds in (0.5, 30.0, 1e6):
        samples.observe("jubako_run_duration_seconds", seconds, pipeline="p")
    (family,) = text_string_to_metric_families(samples.format())
    assert (family.name, family.type) == ("jubako_run_duration_seconds", "histogram")
    assert [(s.labels["le"], s.value) for s in family.samples if s.name.endswith("_bucket")] == [
        ("1", 1),
        ("10", 1),
        ("60", 2),
        ("600", 2),
        ("3600", 2),
        ("21600", 2),
        ("86400", 2),
        ("+Inf", 3),
    ]
    assert [s.value for s in family.samples if not s.name.endswith("_bucket")] == [1_000_030.5, 3]


def test_counters_add_up_and_of_moments_the_later_counts() -> None:
    one, other = Samples(), Samples()
    for samples, count, moment in ((one, 2, 500.0), (other, 3, 400.0)):
        samples.count("jubako_runs_total", count, pipeline="p", outcome="success")
        samples.set("jubako_run_ended_timestamp_seconds", moment, pipeline="p", outcome="success")
    one.add(other)
    assert sorted(parsed(one.format()).values()) == [5, 500]


def test_number_of_series_is_bounded_whatever_is_run() -> None:
    total, one, all_ = Samples(), Samples(), 3_000
    for n in range(all_):
        one.count("jubako_tasks_total", pipeline="p", family=f"Family{n}", status="done")
    total.add(one)
    found = parsed(total.format())
    assert len(found) == 1_001
    assert sum(found.values()) == all_
    key = "jubako_tasks_total", (("family", "(other)"), ("pipeline", "(other)"), ("status", "done"))
    assert found[key] == all_ - 1_000


@pytest.mark.parametrize(
    "line",
    [
        "something_else 1",
        'jubako_runs_total{outcome="success" 1',
        "jubako_runs_total{outcome=success} 1",
        'jubako_runs_total{outcome="a"b"} 1',
        "jubako_runs_total one",
        "jubako_runs_total",
    ],
)
def test_line_that_is_none_of_ours_is_refused_by_its_number(line: str) -> None:
    with pytest.raises(SamplesError, match="line 2 is no sample"):
        Samples.parse(f"# x\n{line}\n")
