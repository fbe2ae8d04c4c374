"""torch.nn.MultiheadAttention checked all its ways: the article's two examples, every option, and the silent traps."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from jubako.attention import CheckOptions, assert_attention_matches, attend, check
from jubako.attention.checking.report import Report
from jubako.attention.checking.verdicts import LayerReport, RunReport
from jubako.errors import HostError, InputError
from jubako.verify import Tolerance

from .conftest import settings_of, weights_of
from .mutants import Plain


def make(seed: int = 0, *, spread: float = 0.3, **options: object) -> torch.nn.MultiheadAttention:
    torch.manual_seed(seed)
    options = {"embed_dim": 12, "num_heads": 2, "batch_first": True} | options
    module = torch.nn.MultiheadAttention(**options).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=spread)
    return module


def the_layer(report: Report) -> LayerReport:
    (layer,) = report.layers
    return layer


def verdicts(run: RunReport) -> dict[str, str]:
    return {verdict.step: verdict.verdict for verdict in run.steps}


def runs(report: Report) -> dict[str, RunReport]:
    return {run.name: run for run in the_layer(report).runs}


# --- the article -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [1, 2])
def test_layer_of_the_article_is_re_derived_step_by_step(heads: int) -> None:
    """Scenario 5.1 and 5.2: embed_dim 4, no bias, X of shape (2, 5, 4)."""
    torch.manual_seed(0)
    model = torch.nn.MultiheadAttention(embed_dim=4, num_heads=heads, bias=False, batch_first=True)
    x = torch.randn(2, 5, 4)
    output, weights = model(x, x, x)
    assert (output.shape, weights.shape) == ((2, 5, 4), (2, 5, 5))

    report = check(model, x, x, x)
    assert report, report.describe()
    run = runs(report)["slow path, need_weights=True"]
    shapes = {verdict.step: verdict.shape for verdict in run.steps}
    size = 4 // heads
    assert shapes == {
        "query_projection": (2, 5, 4),
        "key_projection": (2, 5, 4),
        "value_projection": (2, 5, 4),
        "query_heads": (2, heads, 5, size),
        "key_heads": (2, heads, 5, size),
        "value_heads": (2, heads, 5, size),
        "scores": (2, heads, 5, 5),
        "masked_scores": (2, heads, 5, 5),
        "weights": (2, heads, 5, 5),
        "context": (2, heads, 5, size),
        "concatenated": (2, 5, 4),
        "output": (2, 5, 4),
        "averaged_weights": (2, 5, 5),
    }
    assert set(verdicts(run).values()) <= {"exact", "within_bound"}
    text = report.describe()
    for step, shape in shapes.items():
        sizes = "".join(rf"\w+={size},? ?" for size in shape)
        assert re.search(rf"^ +{step} +\({sizes}\) +(exact|within bound) ", text, re.MULTILINE), text

    by_hand = attend(*[x.numpy()] * 3, weights_of(model), settings_of(model))
    np.testing.assert_allclose(by_hand.output, output.detach(), atol=1e-6)
    np.testing.assert_allclose(by_hand.weights.mean(axis=1), weights.detach(), atol=1e-6)
    allowed = {verdict.step: verdict.cumulative.bound for verdict in run.steps if verdict.cumulative}
    assert 0 < allowed["output"] < 1e-5


def test_returned_weights_are_the_mean_over_heads() -> None:
    model = make(num_heads=2, embed_dim=4)
    report = check(model, torch.randn(2, 5, 4))
    told = {verdict.step: verdict for verdict in runs(report)["slow path, need_weights=True"].steps}
    assert told["averaged_weights"].isolated is not None  # from the weights of both heads
    assert told["averaged_weights"].isolated.holds
    assert told["averaged_weights"].axes == ("B", "L", "S")


# --- all its ways ----------------------------------------------------------------------------------------------------


def test_both_paths_are_run_with_weights_and_without() -> None:
    report = check(make(), torch.randn(2, 5, 12))
    assert list(runs(report)) == [
        f"{path} path, {how}"
        for path in ("slow", "fast")
        for how in ("need_weights=True", "need_weights=True, per head", "need_weights=False")
    ]
    seen = verdicts(runs(report)["fast path, need_weights=True"])
    assert {step for step, verdict in seen.items() if verdict != "not_observable"} == {"output", "averaged_weights"}
    fused = verdicts(runs(report)["slow path, need_weights=False"])
    assert [step for step, verdict in fused.items() if verdict == "not_observable"] == [
        "scores",
        "masked_scores",
        "weights",
        "averaged_weights",
    ]


def test_fast_path_that_torch_does_not_take_is_not_run() -> None:
    assert not any("fast" in name for name in runs(check(make(bias=False), torch.randn(2, 5, 12))))


def test_fast_path_that_raises_where_the_slow_one_does_not_is_told() -> None:
    class Raising(torch.nn.MultiheadAttention):
        def forward(self, *inputs, **arguments):  # type: ignore[no-untyped-def]
            if torch.backends.mha.get_fastpath_enabled():
                raise RuntimeError("not today")
            return super().forward(*inputs, **arguments)

    report = check(Raising(12, 2, batch_first=True), torch.randn(2, 5, 12))
    assert not report
    assert "raises RuntimeError: not today; and another" in runs(report)["fast path, need_weights=False"].broken
    assert runs(report)["slow path, need_weights=False"].is_compared


def test_module_that_knows_no_paths_is_run_without_naming_one() -> None:
    class Own(torch.nn.MultiheadAttention):
        def forward(self, query, key, value, need_weights=True, **_):  # type: ignore[no-untyped-def]
            return torch.nn.functional.multi_head_attention_forward(
                *(each.transpose(0, 1) for each in (query, key, value)),
                *(self.embed_dim, self.num_heads, self.in_proj_weight, self.in_proj_bias, None, None, False, 0.0),
                *(self.out_proj.weight, self.out_proj.bias),
                need_weights=False,
            )[0].transpose(0, 1)

    report = check(Own(12, 2, batch_first=True).eval(), torch.randn(2, 5, 12))
    assert report, report.describe()
    assert list(runs(report)) == ["need_weights=True", "need_weights=True, per head", "need_weights=False"]


def test_result_of_another_shape_departs_with_both_shapes() -> None:
    class Short(torch.nn.MultiheadAttention):
        def forward(self, *inputs, **arguments):  # type: ignore[no-untyped-def]
            output, weights = super().forward(*inputs, **arguments)
            return output[:, 1:], weights

    report = check(Short(12, 2, batch_first=True, bias=False), torch.randn(2, 5, 12))
    assert "output is (B=2, L=4, E=12), and has to be (B=2, L=5, E=12)" in report.describe()
    assert report.to_junit()
    assert report.to_rows()


OPTIONS = [
    {"bias": False},
    {"add_bias_kv": True},
    {"add_zero_attn": True},
    {"add_bias_kv": True, "add_zero_attn": True, "batch_first": False},
    {"kdim": 7},
    {"kdim": 7, "vdim": 5, "add_bias_kv": True},
    {"num_heads": 3},
    {"num_heads": 1},
    {"batch_first": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_layer_agrees_with_every_option(options: dict[str, object], dtype: torch.dtype) -> None:
    module = make(1, **options).to(dtype)
    shapes = [(3, 4, 12), (3, 6, module.kdim), (3, 6, module.vdim)]
    inputs = [torch.randn(shape).to(dtype) for shape in shapes]
    if not module.batch_first:
        inputs = [each.transpose(0, 1) for each in inputs]
    padding = torch.arange(6).expand(3, 6) >= torch.tensor([[6], [4], [3]])
    report = check(module, *inputs, key_padding_mask=padding, attn_mask=torch.ones(4, 6, dtype=torch.bool).triu(2))
    assert report, report.describe()
    seen = verdicts(runs(report)["slow path, need_weights=True"])
    assert {step for step, verdict in seen.items() if verdict == "not_observable"} <= {"scores"}  # added to in one go


@pytest.mark.parametrize("form", ["bool", "float", "per head"])
def test_layer_agrees_with_masks_of_every_form(form: str) -> None:
    module = make(2)
    mask = torch.rand(5, 5) < 0.4
    mask.fill_diagonal_(False)
    if form == "float":
        mask = torch.randn(5, 5)
    if form == "per head":
        mask = mask.repeat(4, 1, 1)
    report = check(module, torch.randn(2, 5, 12), attn_mask=mask)
    assert report, report.describe()


def test_layer_agrees_without_a_batch() -> None:
    report = check(make(3, batch_first=False), torch.randn(5, 12), attn_mask=torch.ones(5, 5).triu(1).bool())
    assert report, report.describe()
    assert the_layer(report).facts["B"] == 1


def test_module_is_left_as_it_was() -> None:
    module = make(4, dropout=0.2).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    enabled = torch.backends.mha.get_fastpath_enabled()
    state = torch.get_rng_state()
    check(module, torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1)))
    assert module.training
    assert module.out_proj.training
    assert torch.backends.mha.get_fastpath_enabled() == enabled
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_random_inputs_follow_the_seed() -> None:
    module = make(5, kdim=7)
    reports = [check(module, options=CheckOptions(seed=seed, batch=3, length=4)) for seed in (1, 1, 2)]
    assert reports[0].to_json() == reports[1].to_json() != reports[2].to_json()
    assert "drawn with seed 1" in reports[0].describe()
    assert the_layer(reports[0]).facts["B"] == 3


# --- traps -----------------------------------------------------------------------------------------------------------


def traps(report: Report) -> dict[str, str]:
    return {trap.name: trap.sentence for trap in the_layer(report).traps}


def test_causal_hint_that_the_fast_path_drops_is_named() -> None:
    report = check(make(), torch.randn(2, 5, 12), is_causal=True)
    assert not report
    assert "every row sees the keys after it" in traps(report)["causal_hint_dropped"]
    assert "RuntimeError: Need attn_mask" in runs(report)["slow path, need_weights=True"].refused
    departure = the_layer(report).first_departure
    assert departure is not None
    assert (departure.step, departure.told.place[0]) == ("output", 0)


def test_causal_mask_with_its_hint_agrees() -> None:
    mask = torch.nn.Transformer.generate_square_subsequent_mask(5)
    report = check(make(), torch.randn(2, 5, 12), attn_mask=mask, is_causal=True)
    assert report, report.describe()


def test_hint_beside_a_mask_that_is_not_causal_shows_which_path_ignores_it() -> None:
    report = check(make(), torch.randn(2, 5, 12), attn_mask=torch.zeros(5, 5).bool(), is_causal=True)
    assert not report
    assert "causal_hint_dropped" in traps(report)
    right = [name for name, run in runs(report).items() if run.first_departure is None]
    assert right == ["slow path, need_weights=False"]


@pytest.mark.parametrize("options", [{"add_bias_kv": True}, {"add_zero_attn": True}])
def test_hint_that_hides_what_the_layer_itself_adds_to_the_keys_is_caught(options: dict[str, bool]) -> None:
    """No mask forbids the added rows, says torch's weights path; with the hint and without weights they are hidden."""
    mask = torch.nn.Transformer.generate_square_subsequent_mask(5)
    report = check(make(**options), torch.randn(2, 5, 12), attn_mask=mask, is_causal=True)
    wrong = {name: run.first_departure.step for name, run in runs(report).items() if run.first_departure is not None}
    assert wrong == {"slow path, need_weights=False": "context"}
    assert check(make(**options), torch.randn(2, 5, 12), attn_mask=mask)


def test_mask_made_for_the_other_polarity_is_named() -> None:
    keep = torch.ones(5, 5, dtype=torch.bool).tril()  # what scaled_dot_product_attention takes
    report = check(make(), torch.randn(2, 5, 12), attn_mask=keep)
    assert "scaled_dot_product_attention" in traps(report)["mask_polarity"]


def test_fully_masked_row_is_named_with_what_each_path_makes_of_it() -> None:
    padding = torch.tensor([[False] * 5, [True] * 5])
    report = check(make(), torch.randn(2, 5, 12), key_padding_mask=padding)
    assert not report
    sentence = traps(report)["fully_masked_row"]
    assert "first batch 1, head 0, row 0" in sentence
    assert "slow path, need_weights=True: NaN in averaged_weights, NaN in weights, NaN in output" in sentence
    assert "slow path, need_weights=False: as is right in output" in sentence
    run = runs(report)["slow path, need_weights=True"]
    assert (run.first_departure.step, run.first_departure.verdict, run.first_departure.origin) == (
        "weights",
        "non_finite",
        "producer",
    )
    later = {verdict.step: verdict.origin for verdict in run.steps}
    assert (later["context"], later["output"]) == ("propagated", "propagated")
    assert runs(report)["slow path, need_weights=False"].first_departure is None
    assert "and slow path, need_weights=False does not" in traps(report)["paths_disagree"]


def test_fully_masked_row_is_no_failure_where_another_thing_is_wrong() -> None:
    class Other(Plain):
        def softmax(self, scores):  # type: ignore[no-untyped-def]
            return scores.softmax(-1).nan_to_num(0)  # as is right

        def value_heads(self, x):  # type: ignore[no-untyped-def]
            return self.heads(x) * 1.01

    torch.manual_seed(0)
    module = Other(12, 2).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    report = check(module, torch.randn(2, 5, 12), key_padding_mask=torch.tensor([[False] * 5, [True] * 5]))
    assert not report
    told = {trap.name: trap.is_failure for trap in the_layer(report).traps}
    assert told["fully_masked_row"] is False


def test_dropout_in_returned_weights_is_named_and_no_failure() -> None:
    report = check(make(dropout=0.5).train(), torch.randn(2, 5, 12))
    assert report, report.describe()
    assert "after dropout, scaled up" in traps(report)["dropout_in_returned_weights"]
    assert "dropout_in_returned_weights" not in traps(check(make(dropout=0.5).eval(), torch.randn(2, 5, 12)))


def test_paths_that_disagree_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Disagreeing(torch.nn.MultiheadAttention):
        """One that has lost its bias where torch takes the fast path."""

        def forward(self, query, key, value, **arguments):  # type: ignore[no-untyped-def]
            output, weights = super().forward(query, key, value, **arguments)
            return (output + 0.5 if torch.backends.mha.get_fastpath_enabled() else output), weights

    torch.manual_seed(0)
    report = check(Disagreeing(12, 2, batch_first=True), torch.randn(2, 5, 12))
    assert not report
    assert "fast path, need_weights=True" in traps(report)["paths_disagree"]


# --- tolerance, assertion, refusals ----------------------------------------------------------------------------------


def test_tolerance_replaces_the_bounds_and_the_report_says_so() -> None:
    module, x = make(), torch.randn(2, 5, 12)
    strict = check(module, x, options=CheckOptions(tolerance=Tolerance(absolute=1e-12, reason="as we need it")))
    assert not strict
    assert "replaced by a tolerance: absolute 1e-12 (as we need it)" in strict.describe()
    assert strict.to_json()["tolerance"] == "absolute 1e-12 (as we need it)"
    assert check(module, x, options=CheckOptions(tolerance=Tolerance(absolute=1e-4)))


def test_assertion_passes_for_a_layer_that_agrees_and_shows_the_report_of_one_that_does_not() -> None:
    module, x = make(), torch.randn(2, 5, 12)
    assert_attention_matches(module, x)
    with pytest.raises(AssertionError, match=r"causal hint dropped: is_causal was given and dropped"):
        assert_attention_matches(module, x, is_causal=True)


REFUSED = [
    ({"attn_mask": torch.zeros(4, 4)}, r"the attention mask is \(4, 4\), and must be \(L=5, S=5\)"),
    ({"key_padding_mask": torch.zeros(2, 4).bool()}, r"padding mask is \(2, 4\), and must be \(B=2, S=5\)"),
    ({"attn_mask": [1.0]}, "attn_mask is a list, and must be a tensor"),
    ({"mask": torch.zeros(5, 5)}, "takes query, key, value, .*not mask"),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED)
def test_arguments_that_do_not_fit_are_refused_in_a_sentence(arguments: dict[str, torch.Tensor], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check(make(), torch.randn(2, 5, 12), **arguments)


def test_inputs_that_do_not_fit_are_refused_in_a_sentence() -> None:
    module = make()
    with pytest.raises(InputError, match=r"query is \(B=2, L=5, E=8\), and the query's weights take E=12"):
        check(module, torch.randn(2, 5, 8))
    with pytest.raises(InputError, match="the query is of type float64, and the layer's weights are float32"):
        check(module, torch.randn(2, 5, 12, dtype=torch.float64))
    with pytest.raises(InputError, match="the query is on meta, and the layer's weights are on cpu"):
        check(module, torch.randn(2, 5, 12, device="meta"))
    with pytest.raises(InputError, match="the query holds nan, first at batch 1, row 2, feature 3"):
        bad = torch.randn(2, 5, 12)
        bad[1, 2, 3] = math.nan
        check(module, bad)
    with pytest.raises(InputError, match="a tensor each for query, key and value: key, value is none"):
        check(module, torch.randn(2, 5, 12), torch.randn(2, 5, 12).numpy(), None)


def test_layer_of_another_name_than_asked_for_is_refused() -> None:
    with pytest.raises(InputError, match="no layer has 'nope' in its name: there is MultiheadAttention"):
        check(make(), options=CheckOptions(layer="nope"))
    with pytest.raises(InputError, match="no layer has 'nope' in its name: there is self_attn"):
        check(torch.nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), options=CheckOptions(layer="nope"))
    assert check(make(), options=CheckOptions(layer="Multihead"))


def test_layer_without_numbers_is_refused() -> None:
    with pytest.raises(InputError, match="the weights of MultiheadAttention are on meta, and have no numbers"):
        check(torch.nn.MultiheadAttention(8, 2, device="meta"), torch.randn(2, 5, 8))


def test_call_that_would_not_fit_memory_is_refused_with_the_estimate() -> None:
    with pytest.raises(HostError, match=r"takes 0\.\d GiB, and 0\.0 GiB are free"):
        check(make(), torch.randn(2, 500, 12), options=CheckOptions(memory_bytes=1 << 20))


def test_weights_that_are_not_finite_make_the_layer_broken() -> None:
    module = make()
    with torch.no_grad():
        module.in_proj_weight[30, 2] = math.inf
    report = check(module, torch.randn(2, 5, 12))
    assert not report
    assert the_layer(report).broken == "the weights hold NaN or inf: value, 1 of 144 numbers"


@pytest.mark.parametrize("sizes", [(0, 5, 5), (2, 0, 0), (2, 0, 3), (2, 3, 0)])
def test_empty_batch_query_or_key_is_nothing_to_depart_from(sizes: tuple[int, int, int]) -> None:
    batch, length, keys = sizes
    query, key = torch.randn(batch, length, 12), torch.randn(batch, keys, 12)
    report = check(make(), query, key, key)
    assert report, report.describe()


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(InputError, match="a module of torch's, or the path of a file of weights, not a int"):
        check(3)
    with pytest.raises(InputError, match="a file of weights is not called"):
        check("model.safetensors", torch.ones(1))
    with pytest.raises(InputError, match="No such file"):
        check("/nowhere/model.safetensors")


def test_module_without_attention_is_refused_with_what_it_is_made_of() -> None:
    with pytest.raises(InputError, match="no attention in Sequential that is known") as refused:
        check(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()), torch.ones(1, 2))
    assert refused.value.hint == "It is made of Linear, ReLU, Sequential."
