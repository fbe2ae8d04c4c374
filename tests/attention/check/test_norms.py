"""Queries and keys that are normalised, scores that are capped: the reference, the bounds, the library's modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from jubako.attention import Masks, Norm, Settings, Weights, attend, capture, check
from jubako.attention.checking.judge import Observed, expect, judge
from jubako.attention.checking.layers import report_layer
from jubako.attention.observing.probing import describe_norm
from jubako.errors import InputError

from .normalised import TYPES, WRONGS, draw_normalised
from .test_what_is_not_known import IDS, SIZES, model_of


@pytest.mark.parametrize("start", range(0, 120, 40))
def test_normalised_layers_with_everything_drawn_raise_no_alarm(start: int) -> None:
    require_no_alarm(range(start, start + 40))


@pytest.mark.soak
@pytest.mark.parametrize("start", range(120, 3000, 120))
def test_many_normalised_layers_with_everything_drawn_raise_no_alarm(start: int) -> None:
    require_no_alarm(range(start, start + 120))


def require_no_alarm(seeds: range) -> None:
    for seed in seeds:
        call, values = draw_normalised(seed)
        run = judge(Observed("drawn", values), expect(call))
        assert run.first_departure is None, f"seed {seed}: {run.first_departure}"


@pytest.mark.parametrize("wrong", WRONGS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_wrong_norm_or_cap_is_named_at_its_step(wrong: str, dtype: str) -> None:
    for seed in (0, 4, 8, 12, 16, 20):
        call, values = draw_normalised(seed, wrong, dtype)
        run = judge(Observed("wrong", values), expect(call))
        assert run.first_departure is not None
        assert run.first_departure.step == WRONGS[wrong], f"seed {seed}"


@pytest.mark.parametrize(("wrong", "trap"), [("no norm", "norm_ignored"), ("no cap", "cap_ignored")])
def test_norm_and_cap_that_are_left_out_are_traps(wrong: str, trap: str) -> None:
    call, values = draw_normalised(5, wrong, "float32")
    report = report_layer("x", "drawn", call, expect(call), [Observed("wrong", values)])
    assert [each.name for each in report.traps] == [trap]
    assert report.facts["softcap"] == call.settings.softcap


def test_reference_agrees_with_torchs_norms() -> None:
    random = np.random.default_rng(0)
    x = random.normal(1.0, 1.0, size=(2, 5, 8))
    parts = [random.normal(size=shape) for shape in ((8, 8), (4, 8), (4, 8))]
    gain, shift = random.normal(size=4), random.normal(size=4)
    plain = Weights(*parts)
    projected = attend(x, x, x, plain, Settings(2, key_heads=1))
    for norm, torchs in (
        (Norm(1e-3), lambda rows: torch.nn.functional.rms_norm(rows, (4,), torch.from_numpy(gain), 1e-3)),
        (Norm(1e-3, 1.0), lambda rows: torch.nn.functional.rms_norm(rows, (4,), torch.from_numpy(gain + 1), 1e-3)),
        (
            Norm(1e-3, takes_mean=True),
            lambda rows: torch.nn.functional.layer_norm(rows, (4,), torch.from_numpy(gain), None, 1e-3),
        ),
    ):
        weights = Weights(*parts, query_norm=gain, key_norm=gain)
        steps = attend(x, x, x, weights, Settings(2, key_heads=1, norm=norm))
        assert np.allclose(steps.query_heads, torchs(torch.from_numpy(projected.query_heads)).numpy())
        assert np.allclose(steps.key_heads, torchs(torch.from_numpy(projected.key_heads)).numpy())
        assert np.array_equal(steps.value_heads, projected.value_heads)
        assert np.array_equal(steps.query_projection, projected.query_projection)
    biased = Weights(*parts, query_norm=gain, key_norm=gain, query_norm_bias=shift, key_norm_bias=shift)
    steps = attend(x, x, x, biased, Settings(2, key_heads=1, norm=norm))
    rows = torch.nn.functional.layer_norm(
        torch.from_numpy(projected.query_heads), (4,), torch.from_numpy(gain), torch.from_numpy(shift), 1e-3
    )
    assert np.allclose(steps.query_heads, rows.numpy())


def test_norm_of_all_heads_and_one_of_each_with_weights_of_its_own_are_told_apart_by_their_shapes() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(1, 3, 8))
    parts = [random.normal(size=(8, 8)) for _ in range(3)]
    gain = random.normal(size=8)
    q = x @ parts[0].T
    whole = attend(x, x, x, Weights(*parts, query_norm=gain, key_norm=gain), Settings(2))
    expected = q / np.sqrt((q**2).mean(-1, keepdims=True) + 1e-6) * gain
    assert np.allclose(whole.query_heads.transpose(0, 2, 1, 3).reshape(1, 3, 8), expected)
    each = attend(x, x, x, Weights(*parts, query_norm=gain.reshape(2, 4), key_norm=gain.reshape(2, 4)), Settings(2))
    heads = q.reshape(1, 3, 2, 4)
    expected = heads / np.sqrt((heads**2).mean(-1, keepdims=True) + 1e-6) * gain.reshape(2, 4)
    assert np.allclose(each.query_heads.transpose(0, 2, 1, 3), expected)


def test_capped_scores_stay_below_the_cap_and_masks_come_after() -> None:
    random = np.random.default_rng(2)
    x = random.normal(size=(1, 4, 8)) * 10
    weights = Weights(*(random.normal(size=(8, 8)) for _ in range(3)))
    plain = attend(x, x, x, weights, Settings(2))
    steps = attend(x, x, x, weights, Settings(2, softcap=5.0), Masks(padding=np.array([[False, False, False, True]])))
    assert np.abs(plain.scores).max() > 50
    assert np.allclose(steps.scores, 5 * np.tanh(plain.scores / 5))
    assert (steps.weights[..., 3] == 0).all()


ONES = np.ones(4)
REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"query_norm": ONES}, {}, "a norm for query or key alone"),
    ({"query_norm_bias": ONES, "key_norm_bias": ONES}, {}, "a norm bias, and no norm weights"),
    ({"query_norm": ONES, "key_norm": np.ones(3)}, {}, r"the key norm has shape \(3,\), and must be \(D=4,\)"),
    ({"query_norm": ONES, "key_norm": ONES, "added_key": np.ones(8), "added_value": np.ones(8)}, {}, "an added row"),
    ({}, {"softcap": 0.0}, "scores are capped at 0.0"),
    ({}, {"norm": Norm(-1.0)}, "the epsilon of norms is -1.0"),
]


@pytest.mark.parametrize(("weights", "settings", "sentence"), REFUSED)
def test_what_cannot_be_of_one_layer_is_refused(
    weights: dict[str, Any], settings: dict[str, Any], sentence: str
) -> None:
    x = np.ones((1, 2, 8))
    with pytest.raises(InputError, match=sentence):
        attend(x, x, x, Weights(*(np.ones((8, 8)) for _ in range(3)), **weights), Settings(2, **settings))


# --- the library's modules -------------------------------------------------------------------------------------------

GROUPED = {"num_key_value_heads": 2}
NORMED = {
    "Qwen3": ({**GROUPED, "head_dim": 8}, "RMSNorm of each head"),
    "Gemma3Text": (
        {**GROUPED, "head_dim": 8, "layer_types": ["sliding_attention"], "sliding_window": 3},
        "RMSNorm of each head",
    ),
    "Olmo2": (GROUPED, "RMSNorm of all heads"),
    "Olmoe": ({**GROUPED, "num_experts": 2, "num_experts_per_tok": 1}, "RMSNorm of all heads"),
    "Cohere": ({**GROUPED, "use_qk_norm": True}, "LayerNorm of each head"),
    "Phi": ({"qk_layernorm": True}, "LayerNorm of each head"),
}


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", NORMED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_norms_of_the_library_are_re_derived(kind: str, implementation: str, dtype: torch.dtype) -> None:
    others, said = NORMED[kind]
    model = model_of(kind, implementation, **others).to(dtype)
    for name, parameter in model.named_parameters():
        if "norm" in name.split(".")[-2]:
            torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.3)
    report = check(model, input_ids=IDS)
    assert report, report.describe()
    assert (len(report.layers), report.unchecked) == (1, [])
    assert report.layers[0].facts["norm"] == said
    (norm,) = [module for name, module in model.named_modules() if name.endswith(("q_norm", "q_layernorm"))]
    norm.register_forward_hook(lambda module, args, output: output + 0.1)
    wrong = check(model, input_ids=IDS)
    assert wrong.layers[0].first_departure.step == "query_heads"


@pytest.mark.parametrize("kind", NORMED)
def test_norms_under_autocast_are_those_of_their_own_type(kind: str) -> None:
    model = model_of(kind, "sdpa", **NORMED[kind][0])
    for name, parameter in model.named_parameters():
        if "norm" in name.split(".")[-2]:
            torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.5)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), capture(model) as captured:
        model(input_ids=IDS)
    report = captured.report()
    assert report, report.describe()
    assert len(report.layers) == 1
    steps = {step.step: step for step in report.layers[0].runs[0].steps}
    assert max(steps[name].isolated.used for name in ("query_heads", "key_heads")) < 0.25  # rounded, it is up to 0.5


def test_norm_that_is_wrong_by_itself_is_found_and_one_of_another_kind_is_not_judged() -> None:
    model = model_of("Qwen3", **GROUPED, head_dim=8)
    norm = model.layers[0].self_attn.q_norm

    class Off(type(norm)):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 0.01

    class Other(type(norm)):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.weight * torch.tanh(x)

    norm.__class__ = Off
    assert check(model, input_ids=IDS).layers[0].first_departure.step == "query_heads"
    norm.__class__ = Other
    report = check(model, input_ids=IDS)
    assert (report.layers, report.unchecked) == (
        [],
        ["layers.0.self_attn: it has q_norm, k_norm, which is not re-derived"],
    )


def test_cap_of_the_library_is_re_derived_and_missed_where_it_is_left_out() -> None:
    model = model_of("Gemma2", head_dim=8, **GROUPED, attn_logit_softcapping=0.5)
    report = check(model, input_ids=IDS)
    assert report, report.describe()
    assert report.layers[0].facts["softcap"] == 0.5
    assert "scores" in {verdict.step for verdict in report.layers[0].runs[0].steps if verdict.isolated}

    def forget(module: Any, query: Any, key: Any, value: Any, mask: Any, **others: Any) -> tuple[torch.Tensor, None]:
        context = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=others["scaling"], enable_gqa=True
        )
        return context.transpose(1, 2), None

    transformers.AttentionInterface.register("forgetful", forget)
    model.config._attn_implementation = "forgetful"
    wrong = check(model, input_ids=IDS)
    assert not wrong
    assert [trap.name for trap in wrong.layers[0].traps] == ["cap_ignored"]


TURNED = [
    ("Glm", {**GROUPED, "head_dim": 8, "pad_token_id": 1}, "interleaved"),
    ("Ernie4_5", {**GROUPED, "head_dim": 8}, "interleaved"),
    ("Cohere", GROUPED, "interleaved"),
    ("Phi3", {**GROUPED, "pad_token_id": 1}, "halves"),
    ("GPTNeoX", {}, "halves"),
    ("Cohere2", {**GROUPED, "layer_types": ["full_attention"]}, None),
    ("Cohere2", {**GROUPED, "layer_types": ["sliding_attention"], "sliding_window": 3}, "interleaved"),
    ("Exaone4", {**GROUPED, "layer_types": ["full_attention"], "sliding_window": 3}, None),
    ("SmolLM3", {**GROUPED, "no_rope_layers": [0], "pad_token_id": 1}, None),
    ("SmolLM3", {**GROUPED, "no_rope_layers": [1], "pad_token_id": 1}, "halves"),
]


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize(("kind", "others", "pairing"), TURNED)
def test_heads_are_turned_as_the_module_does_it(
    kind: str, others: dict[str, Any], pairing: str | None, implementation: str
) -> None:
    """How cosines lie in their table does not tell which features they turn, and some layers turn none."""
    report = check(model_of(kind, implementation, **others), input_ids=IDS)
    assert report, report.describe()
    assert (len(report.layers), report.unchecked) == (1, [])
    assert report.layers[0].facts["rotary"] == pairing


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["GPTNeoX", "Glm", "Olmo2"])
def test_models_that_generate_are_followed_with_their_caches(kind: str, implementation: str) -> None:
    torch.manual_seed(0)
    others = {} if kind == "GPTNeoX" else GROUPED
    config = getattr(transformers, f"{kind}Config")(
        **{**SIZES, **others, "head_dim": 8, "pad_token_id": 1}, attn_implementation=implementation
    )
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with capture(model) as captured:
        model.generate(IDS, max_new_tokens=3, do_sample=False, pad_token_id=1, eos_token_id=None)
    report = captured.report()
    assert report, report.describe()
    assert [layer.facts["P"] for layer in report.layers] == [None, 7, 8]


def test_types_that_are_drawn_are_all_there_are() -> None:
    assert {draw_normalised(seed)[0].precision.name for seed in range(4)} == set(TYPES)


@pytest.mark.parametrize("large", [30.0, 100.0])
def test_kind_of_a_norm_is_the_nearest_where_weights_are_large(large: float) -> None:
    norm = transformers.models.gemma3.modeling_gemma3.Gemma3RMSNorm(8)  # whose weights are stored less 1
    with torch.no_grad():
        norm.weight[0] = large
    found = describe_norm(norm)
    assert found is not None
    assert found[0] == Norm(1e-6, offset=1.0)
