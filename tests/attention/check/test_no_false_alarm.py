"""Correct attention raises no alarm, whatever its sizes, types, masks and scores; and what is barely wrong does.

Two hundred settings are drawn, for torch's layer, for attention in plain NumPy, and for the fused kernels. `make soak`
draws many more. The largest share of its bound that any step uses is what docs/attention-bounds.md tells of.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jubako.attention import CheckOptions, check
from jubako.attention.checking.arithmetic import compute
from jubako.attention.checking.judge import Call, Observed, expect, judge
from jubako.attention.checking.precision import PRECISIONS
from jubako.attention.checking.rounding import from_bfloat16, round_to, to_bfloat16
from jubako.attention.description import Masks, Settings, Weights, rotary_of

TYPES = ("float32", "float64", "bfloat16", "float16")


def draw_layer(seed: int) -> tuple[torch.nn.MultiheadAttention, tuple[torch.Tensor, ...], dict[str, object]]:
    """A layer of torch's with everything drawn: sizes, options, type, masks, and how large its scores are."""
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    dtype = getattr(torch, TYPES[seed % 4])
    heads = int(random.integers(1, 9))
    embed = heads * int(random.choice([1, 2, 3, 8, 16, 32]))
    batch, length, keys = (int(random.choice([1, 2, 3, 5, 17, 40])) for _ in range(3))
    is_cross = random.random() < 0.4
    keys = keys if is_cross else length
    others = {"kdim": int(random.integers(1, 20)), "vdim": int(random.integers(1, 20))} if random.random() < 0.2 else {}
    is_cross = is_cross or bool(others)
    module = torch.nn.MultiheadAttention(
        embed,
        heads,
        bias=bool(random.random() < 0.7),
        add_bias_kv=bool(random.random() < 0.2),
        add_zero_attn=bool(random.random() < 0.2),
        batch_first=bool(random.random() < 0.7),
        **others,
    ).eval()
    size = float(random.choice([0.3, 1.0, 1.0, 3.0]))  # three times as large: scores nine times as large
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter.shape[-1] if parameter.ndim > 1 else 1.0
            parameter.normal_(std=size / fan_in**0.5)
            if random.random() < 0.2:
                parameter.add_(float(random.normal()) * size / fan_in)  # terms of one sign
    module.to(dtype)
    shift = float(random.choice([0.0, 0.0, 2.0]))
    shapes = [(batch, length, embed), (batch, keys, module.kdim), (batch, keys, module.vdim)]
    inputs = [(torch.randn(shape) + shift).to(dtype) for shape in shapes]
    if not is_cross:
        inputs = [inputs[0]] * 3
    if not module.batch_first:
        inputs = [each.transpose(0, 1) for each in inputs]
        inputs = inputs if is_cross else [inputs[0]] * 3
    arguments: dict[str, object] = {}
    kind = random.integers(0, 5)
    if kind == 1:
        mask = torch.rand(length, keys) < 0.5
        mask[:, 0] = False
        arguments["attn_mask"] = mask
    if kind == 2:
        arguments["attn_mask"] = torch.randn(batch * heads, length, keys).to(dtype)
    if kind == 3:
        arguments["attn_mask"] = torch.ones(length, keys, dtype=torch.bool).triu(1)
        # With added rows of keys torch's slow path lets the hint hide these: test_torch_layer tells of it.
        arguments["is_causal"] = module.bias_k is None and not module.add_zero_attn
    if random.random() < 0.3:
        lengths = torch.from_numpy(random.integers(1, keys + 1, size=batch))
        arguments["key_padding_mask"] = torch.arange(keys).expand(batch, keys) >= lengths[:, None]
        if kind == 2:
            padding = torch.zeros(batch, keys).masked_fill(arguments["key_padding_mask"], -torch.inf)
            arguments["key_padding_mask"] = padding.to(dtype)
    return module, tuple(inputs), arguments


@pytest.mark.parametrize("start", range(0, 200, 20))
def test_layers_of_torch_with_everything_drawn_raise_no_alarm(start: int) -> None:
    for seed in range(start, start + 20):
        module, inputs, arguments = draw_layer(seed)
        report = check(module, *inputs, options=CheckOptions(seed=seed), **arguments)
        assert report, f"seed {seed}\n{report.describe()}"


@pytest.mark.soak
@pytest.mark.parametrize("start", range(200, 5200, 100))
def test_many_layers_of_torch_with_everything_drawn_raise_no_alarm(start: int) -> None:
    for seed in range(start, start + 100):
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
