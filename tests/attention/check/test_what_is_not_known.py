"""Modules that do something more than attention as it is known: listed with the reason, and never called wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from jubako.attention import check

IDS = torch.randint(5, 50, (2, 7), generator=torch.Generator().manual_seed(0))
SIZES = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 50}
OWN_WAY = "computes attention in a way of its own"


def model_of(kind: str, implementation: str = "eager", **others: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **others}, attn_implementation=implementation)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    assert isinstance(model, torch.nn.Module)
    return model


UNKNOWN = [
    ("Albert", {"embedding_size": 16}, "it has dense, LayerNorm"),
    ("RoFormer", {"embedding_size": 32}, f"RoFormerSelfAttention {OWN_WAY}"),
    (
        "Esm",
        {"pad_token_id": 1, "position_embedding_type": "rotary"},
        "it has LayerNorm, position_embedding_type rotary",
    ),
    (
        "Gemma3Text",  # which has the setting and does nothing with it
        {"head_dim": 8, "num_key_value_heads": 2, "attn_logit_softcapping": 2.0, "layer_types": ["full_attention"]},
        "it has attn_logit_softcapping",
    ),
    (
        "GptOss",
        {"head_dim": 8, "num_key_value_heads": 2, "num_local_experts": 2, "num_experts_per_tok": 1},
        "it has sinks",
    ),
    ("NanoChat", {"num_key_value_heads": 2}, "it has q_norm, k_norm"),
    ("GPTJ", {"n_embd": 32, "n_layer": 1, "n_head": 4, "rotary_dim": 4}, "it has rotary_dim"),
    ("Olmo", {"clip_qkv": 0.3}, "it has clip_qkv"),
    ("Nystromformer", {"num_landmarks": 7, "segment_means_seq_len": 7}, "it has conv"),
]


@pytest.mark.parametrize(("kind", "others", "reason"), UNKNOWN, ids=[kind for kind, _, _ in UNKNOWN])
def test_model_that_does_something_more_is_not_checked(kind: str, others: dict[str, Any], reason: str) -> None:
    report = check(model_of(kind, **others), input_ids=IDS)
    assert report.layers == []
    assert reason in report.unchecked[0]
    assert report.unchecked[0].endswith("which is not re-derived")


KNOWN = [
    ("Phi", {}),
    ("Olmo", {}),
    ("Cohere", {"num_key_value_heads": 2}),
    ("Qwen2", {"num_key_value_heads": 2}),
    ("Mistral", {"num_key_value_heads": 2, "sliding_window": 3}),
    ("Granite", {"num_key_value_heads": 2, "attention_multiplier": 0.3}),
    ("Gemma2", {"head_dim": 8, "num_key_value_heads": 2, "attn_logit_softcapping": None}),
    ("Electra", {"embedding_size": 32}),
    ("OPT", {"ffn_dim": 32, "word_embed_proj_dim": 32}),
]


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize(("kind", "others"), KNOWN, ids=[kind for kind, _ in KNOWN])
def test_kin_of_what_is_known_is_checked_and_agrees(kind: str, others: dict[str, Any], implementation: str) -> None:
    if kind == "Gemma2":  # for which the library has no other way
        implementation = "eager"
    model = model_of(kind, implementation, **others)
    report = check(model, input_ids=IDS)
    assert report, report.describe()
    assert (len(report.layers), report.unchecked) == (1, [])
    for name, module in model.named_modules():
        if name.endswith(("v_proj", "value")):
            module.register_forward_hook(lambda module, args, output: output * 1.01)
    assert not check(model, input_ids=IDS), "a layer that is wrong is still found"


class Adapted(torch.nn.Module):
    """A linear layer with a small one beside it, as adapters have it."""

    def __init__(self, base: torch.nn.Linear) -> None:
        super().__init__()
        self.base_layer, self.down = base, torch.nn.Linear(base.in_features, 2, bias=False)
        self.up = torch.nn.Linear(2, base.out_features, bias=False)

    weight = property(lambda self: self.base_layer.weight)
    bias = property(lambda self: self.base_layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + self.up(self.down(x))


class Doubled(torch.nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize("kind", ["Adapted", "Doubled"])
@pytest.mark.parametrize("part", ["q_proj", "o_proj"])
def test_projection_that_is_more_than_its_weights_is_not_checked(kind: str, part: str) -> None:
    model = model_of("Llama")
    attention = model.layers[0].self_attn
    setattr(attention, part, Adapted(getattr(attention, part)) if kind == "Adapted" else Doubled(32, 32))
    report = check(model, input_ids=IDS)
    assert report.layers == []
    assert report.unchecked == [
        f"layers.0.self_attn: {part} is a {kind}, not a plain linear layer, and that is not re-derived"
    ]


def test_attention_of_somebodys_own_that_has_more_parts_is_not_checked() -> None:
    class Own(torch.nn.Module):
        def __init__(self, *, has_gate: bool) -> None:
            super().__init__()
            self.q_proj, self.k_proj, self.v_proj, self.o_proj = (torch.nn.Linear(8, 8) for _ in range(4))
            self.head_dim = 4
            if has_gate:
                self.gate = torch.nn.Parameter(torch.full((1,), 0.5))

        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            heads = [
                part(hidden_states).view(1, 3, 2, 4).transpose(1, 2) for part in (self.q_proj, self.k_proj, self.v_proj)
            ]
            context = torch.nn.functional.scaled_dot_product_attention(*heads)
            output = self.o_proj(context.transpose(1, 2).reshape(1, 3, 8))
            return output * self.gate if hasattr(self, "gate") else output

    x = torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(1))
    assert check(torch.nn.Sequential(Own(has_gate=False)), x)
    report = check(torch.nn.Sequential(Own(has_gate=True)), x)
    assert report.unchecked == ["0: it has gate, which is not re-derived"]


class MoreAfterwards(torch.nn.Module):
    """The last projection of BERT's attention, with another attention after it."""

    def __init__(self, plain: torch.nn.Module) -> None:
        super().__init__()
        self.dense, self.LayerNorm, self.more = plain.dense, plain.LayerNorm, torch.nn.Linear(32, 96)

    def forward(self, hidden: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.dense(hidden)
        query, key, value = self.more(hidden).chunk(3, -1)
        return self.LayerNorm(hidden + (query @ key.mT).softmax(-1) @ value + inputs)


def test_module_with_more_around_its_last_projection_is_not_checked() -> None:
    model = model_of("Bert")
    attention = model.encoder.layer[0].attention
    attention.output = MoreAfterwards(attention.output)
    report = check(model, input_ids=IDS)
    assert not report
    assert report.unchecked == ["encoder.layer.0.attention: it has output.more, which is not re-derived"]
