"""Random settings of a layer and a call, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from jubako.attention.layer.module import MultiheadAttention

__all__ = ["Setting", "make_setting"]


@dataclass
class Setting:
    """Arguments of the constructor and of forward, and the seed of the weights."""

    seed: int
    options: dict[str, Any]
    inputs: tuple[Tensor, Tensor, Tensor]
    call: dict[str, Any] = field(default_factory=dict)
    is_training: bool = False

    def make(
        self, kind: Callable[..., nn.MultiheadAttention] = MultiheadAttention, **more: Any
    ) -> nn.MultiheadAttention:
        """A layer with these options; biases and the rest are no zeros."""
        torch.manual_seed(self.seed)
        module = kind(**self.options, **more)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if "bias" in name:
                    parameter.normal_()
        return module.train(self.is_training)


def make_setting(seed: int) -> Setting:
    """Sizes from 1 to a few, any options, and masks of any kind, of which each query may see something and more."""
    chance = random.Random(seed)
    torch.manual_seed(seed)
    heads = chance.choice([1, 2, 3, 4])
    width = heads * chance.choice([1, 2, 3, 8])
    dtype = chance.choice([torch.float32, torch.float32, torch.float64])
    options = {
        "embed_dim": width,
        "num_heads": heads,
        "bias": chance.random() < 0.6,
        "add_bias_kv": chance.random() < 0.25,
        "add_zero_attn": chance.random() < 0.25,
        "kdim": chance.choice([None, None, 5]),
        "vdim": chance.choice([None, None, 7]),
        "batch_first": chance.random() < 0.6,
        "dtype": dtype,
    }
    batch, length, keys = chance.randint(1, 3), chance.randint(1, 9), chance.randint(1, 9)
    is_self = chance.random() < 0.5 and options["kdim"] is None and options["vdim"] is None
    is_batched = chance.random() < 0.8
    if is_self:
        keys = length

    def draw(rows: int, features: int) -> Tensor:
        shape = [batch, rows] if options["batch_first"] else [rows, batch]
        made = torch.randn(*(shape if is_batched else [rows]), features, dtype=torch.float64)
        return (made * chance.choice([0.3, 1.0, 4.0])).to(dtype)

    query = draw(length, width)
    key = query if is_self else draw(keys, options["kdim"] or width)
    shares = is_self or (options["kdim"] == options["vdim"] and chance.random() < 0.5)
    value = key if shares else draw(keys, options["vdim"] or width)
    call: dict[str, Any] = {
        "need_weights": chance.random() < 0.7,
        "average_attn_weights": chance.random() < 0.6,
        "is_causal": False,
    }
    is_boolean = chance.random() < 0.5

    def as_mask(forbidden: Tensor) -> Tensor:
        if is_boolean:
            return forbidden
        return torch.randn(forbidden.shape, dtype=dtype).masked_fill(forbidden, float("-inf"))

    if chance.random() < 0.4:
        forbidden = torch.rand(*([batch] if is_batched else []), keys) < 0.4
        forbidden[..., 0] = False
        call["key_padding_mask"] = as_mask(forbidden)
    if chance.random() < 0.5:
        entries = (batch if is_batched else 1) * heads
        forbidden = torch.rand(*([entries] if chance.random() < 0.5 else []), length, keys) < 0.4
        forbidden[..., 0] = False
        call["attn_mask"] = as_mask(forbidden)
    return Setting(seed, options, (query, key, value), call, is_training=chance.random() < 0.5)
