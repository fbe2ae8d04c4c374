"""Samples, rules and verdicts: values only. Verifying itself is in `tests/system/run/test_verify.py`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.errors import InputError
from jubako.flow.tasks.task import Task
from jubako.flow.verifying.verification import OutputVerdict, TaskVerdict, Verification, draw_sample, find_rules
from jubako.verify import EXACT, Comparison, Difference, Rules, Tolerance


@given(st.integers(1, 400), st.integers(1, 100), st.integers(0, 9))
def test_sample_is_some_of_the_values_in_their_order_and_the_same_for_a_seed(count: int, share: int, seed: int) -> None:
    values = list(range(count))
    drawn = draw_sample(values, f"{share}%", seed)
    assert drawn == sorted(set(drawn))
    assert len(drawn) == -(-count * share // 100)
    assert drawn == draw_sample(values, f"{share}%", seed)
    assert len(draw_sample(values, str(share), seed)) == min(share, count)


def test_samples_of_other_seeds_are_others() -> None:
    assert len({tuple(draw_sample(range(365), "5", seed)) for seed in range(20)}) == 20


@pytest.mark.parametrize("size", ["", "%", "0", "-3", "0%", "101%", "nan%", "inf%", "1.5", "x", "5 percent"])
def test_sample_of_no_size_is_refused(size: str) -> None:
    with pytest.raises(InputError, match="neither a number from 1"):
        draw_sample([1, 2], size, 0)


class Plain(Task):
    pass


class Near(Task):
    verification = Rules(Tolerance(absolute=1), ignore=["a"])


class Wrong(Task):
    verification = 0.5


def test_rules_are_the_tasks_own_but_for_what_was_asked() -> None:
    assert find_rules(Plain(), None, ()) == Rules(ignore=())
    assert find_rules(Near(), None, ["b"]) == Rules(Tolerance(absolute=1), ignore=("a", "b"))
    assert find_rules(Near(), EXACT, ()).tolerance == EXACT
    with pytest.raises(InputError, match=r"Wrong\(\): verification is 0.5"):
        find_rules(Wrong(), None, ())


def verification(*verdicts: Any, **values: Any) -> Verification:
    return Verification("r", [TaskVerdict(Plain(), verdict) for verdict in verdicts], **values)


def test_verification_is_true_if_all_agrees() -> None:
    assert verification("same", "within")
    assert verification()
    assert not verification("same", "different")
    assert not verification("cannot")
    assert not verification("same", is_interrupted=True)


def test_verification_counts_in_words() -> None:
    found = verification("same", "same", "within", "different", "cannot", not_verified=2)
    counted = "5 verified = 2 same + 1 within tolerance + 1 different + 1 cannot be compared, 2 not"
    assert found.describe() == counted


def test_task_is_described_by_the_output_that_decided() -> None:
    outputs = [
        OutputVerdict("/a", Comparison("same", "bytes")),
        OutputVerdict("/b", Comparison("different", "text", Difference("line 1", '"x"', ""))),
    ]
    assert TaskVerdict(Plain(), "different", outputs).describe() == '/b: line 1: published "x", recomputed nothing'
    assert TaskVerdict(Plain(), "same", outputs[:1]).describe() == ""
    assert TaskVerdict(Plain(), "cannot", sentence="why").describe() == "why"
