"""Correct attention raises no alarm, whatever its sizes, types, masks and scores; and what is barely wrong does.

Two hundred settings are drawn, for torch's layer, for attention in plain NumPy, and for the fused kernels. `make soak`
draws many more. The largest share of its bound that any step uses is what docs/attention-bounds.md tells of.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jubako.attention import CheckOptions, check, check_steps
from jubako.attention.checking.arithmetic import compute
from jubako.attention.checking.judge import Call, Observed, expect, judge
from jubako.attention.checking.precision import PRECISIONS
from jubako.attention.checking.rounding import from_bfloat16, round_to, to_bfloat16
from jubako.attention.description import Masks, Settings, Weights, rotary_of
from jubako.attention.steps import STEP_NAMES
from jubako.errors import InputError

from .drawn import TYPES, draw_layer


@pytest.mark.parametrize("start", range(0, 200, 20))
def test_layers_of_torch_with_everything_drawn_raise_no_alarm(start: int) -> None:
    require_no_alarm(range(start, start + 20))


@pytest.mark.soak
@pytest.mark.parametrize("start", range(200, 5200, 100))
def test_many_layers_of_torch_with_everything_drawn_raise_no_alarm(start: int) -> None:
    require_no_alarm(range(start, start + 100))


def require_no_alarm(seeds: range) -> None:
    for seed in seeds:
        module, inputs, arguments = draw_layer(seed)
        report = check(module, *inputs, options=CheckOptions(seed=seed), **arguments)
        assert report, f"seed {seed}\n{report.describe()}"


def draw_call(seed: int) -> Call:
    """A call with what torch's layer does not have: shared heads of keys, positions, another scale."""
    random = np.random.default_rng(seed)
    name = TYPES[seed % 4]
    heads = int(random.choice([1, 2, 4, 6]))
    groups = int(random.choice([n for n in (1, 2, 3, 6) if heads % n == 0]))
    size = 2 * int(random.choice([1, 4, 16]))
    embed, batch, length = int(random.integers(1, 80)), int(random.integers(1, 4)), int(random.choice([1, 7, 60]))
    scale = float(random.choice([0.5, 1.0, 4.0]))

    def draw(*shape: int) -> np.ndarray:
        return round_to(random.normal(size=shape) * scale / shape[-1] ** 0.5, name)

    weights = Weights(
        draw(heads * size, embed), draw(groups * size, embed), draw(groups * size, embed), draw(9, heads * size)
    )
    rotary = rotary_of(np.arange(length), size, pairing="halves" if seed % 3 else "interleaved")
    x = round_to(random.normal(size=(batch, length, embed)), name)
    x[..., 0] = round_to(x[..., 0] * float(random.choice([1.0, 50.0])), name)  # one feature outweighs the rest
    settings = Settings(
        heads, key_heads=groups, is_causal=bool(seed % 2), rotary=rotary, scale=float(random.uniform(0.05, 1))
    )
    return Call(weights, settings, x, x, x, PRECISIONS[name])


@pytest.mark.parametrize("start", range(0, 200, 50))
def test_attention_in_plain_numpy_raises_no_alarm(start: int) -> None:
    for seed in range(start, start + 50):
        call = draw_call(seed)
        run = judge(Observed("NumPy", compute(call)), expect(call))
        assert run.first_departure is None, f"seed {seed}: {run.first_departure}"


@pytest.mark.parametrize("name", TYPES)
def test_change_of_a_step_shows_at_that_step(name: str) -> None:
    """One per cent in single and double precision, 64 times what rounding makes in half precision."""
    call = draw_call(4 * 3 + TYPES.index(name))
    expected = expect(call)
    right = compute(call)
    for step in right:
        factor = 1 + (0.01 if name in ("float32", "float64") else 64 * PRECISIONS[name].unit)
        changed = {**right, step: right[step] * factor}
        run = judge(Observed("NumPy", changed), expected)
        assert run.first_departure is not None, step
        assert run.first_departure.step == step


def test_steps_of_any_program_are_checked_as_far_as_they_are_given() -> None:
    call = draw_call(8)
    values = compute(call)
    report = check_steps({step: values[step] for step in ("query_heads", "context", "output")}, call)
    assert report, report.describe()
    wrong = check_steps({"context": np.flip(values["context"], -1), "output": values["output"]}, call)
    assert wrong.layers[0].first_departure.step == "context"
    with pytest.raises(InputError, match="there is no step called contexts") as refused:
        check_steps({"contexts": values["context"]}, call)
    assert "averaged_weights" in refused.value.hint
    for array in (values["context"] * 1j, values["context"].astype(str), values["context"] > 0):
        with pytest.raises(InputError, match=r"context is of type .*, and what a step gives are real numbers"):
            check_steps({"context": array}, call)
    with pytest.raises(InputError, match="no step was given"):
        check_steps({}, call)


@settings(max_examples=60)
@given(seed=st.integers(0, 40), steps=st.sets(st.sampled_from(STEP_NAMES), min_size=1))
def test_any_of_the_steps_may_be_all_that_is_seen(seed: int, steps: set[str]) -> None:
    call = draw_call(seed)
    values = compute(call)
    report = check_steps({step: values[step] for step in steps}, call)
    assert report, report.describe()
    seen = {verdict.step for verdict in report.layers[0].runs[0].steps if verdict.verdict != "not_observable"}
    assert seen == steps


def test_bfloat16_is_rounded_as_torch_does() -> None:
    random = np.random.default_rng(0)
    numbers = np.concatenate(
        [random.normal(size=1000), [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 3.4e38, 1.00390625]]
    )
    single = numbers.astype(np.float32)
    expected = torch.from_numpy(single).bfloat16().float().numpy()
    assert np.array_equal(from_bfloat16(to_bfloat16(single)), expected, equal_nan=True)
    assert np.array_equal(round_to(numbers, "bfloat16"), expected, equal_nan=True)


def test_masked_rows_drawn_with_a_finite_number_instead_of_minus_infinity_raise_no_alarm() -> None:
    call = draw_call(5)
    causal = np.triu(np.ones((call.query.shape[1],) * 2, bool), 1)
    masked = Call(call.weights, call.settings, call.query, call.key, call.value, call.precision, Masks(causal))
    values = compute(masked)
    values["masked_scores"] = np.where(np.isneginf(values["masked_scores"]), -1e9, values["masked_scores"])
    assert judge(Observed("NumPy", values), expect(masked)).first_departure is None
