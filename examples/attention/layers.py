"""Attention layers to be checked: `jubako attention check examples/attention/layers.py:two_heads`."""

from __future__ import annotations

import torch
from torch import nn


def make(heads: int) -> tuple[nn.MultiheadAttention, torch.Tensor]:
    """A layer of torch's with 4 features and no bias, and two sequences of 5."""
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(embed_dim=4, num_heads=heads, bias=False, batch_first=True)
    return layer, torch.randn(2, 5, 4)


def one_head() -> tuple[nn.Module, torch.Tensor]:
    """One head: what attends is the whole of each row."""
    return make(1)


def two_heads() -> tuple[nn.Module, torch.Tensor]:
    """Two heads of two features each."""
    return make(2)


def hint() -> tuple[nn.Module, torch.Tensor, dict[str, bool]]:
    """The next token must not be seen, and the caller says so. torch's fast path does not listen."""
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(embed_dim=4, num_heads=2, batch_first=True).eval()
    return layer, torch.randn(2, 5, 4), {"is_causal": True}


class Unscaled(nn.MultiheadAttention):
    """An attempt at writing attention by hand: something is missing."""

    def forward(self, query, key, value, *, need_weights=True, average_attn_weights=True, **_others):  # type: ignore[no-untyped-def]
        q, k, v = (
            self.split(x) for x in nn.functional.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        )
        weights = (q @ k.transpose(-1, -2)).softmax(dim=-1)
        output = self.out_proj((weights @ v).transpose(1, 2).flatten(2))
        if not need_weights:
            return output, None
        return output, weights.mean(dim=1) if average_attn_weights else weights

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """(B, L, E) as (B, H, L, D)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def by_hand() -> tuple[nn.Module, torch.Tensor]:
    """The attempt, with inputs."""
    torch.manual_seed(0)
    return Unscaled(embed_dim=4, num_heads=2, batch_first=True), torch.randn(2, 5, 4)


class Mine(nn.Module):
    """Attention that no checker knows, with one projection for all three."""

    def __init__(self) -> None:
        super().__init__()
        self.packed = nn.Linear(4, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (part.unflatten(-1, (2, 2)).transpose(1, 2) for part in self.packed(x).chunk(3, -1))
        return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Block(nn.Module):
    """That, and a layer of torch's after it."""

    def __init__(self) -> None:
        super().__init__()
        self.mine = Mine()
        self.known = nn.MultiheadAttention(embed_dim=4, num_heads=2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.mine(x)
        output: torch.Tensor = self.known(x, x, x)[0]
        return output


def block() -> tuple[nn.Module, torch.Tensor]:
    """Both, with inputs: only one of them can be checked."""
    torch.manual_seed(0)
    return Block().eval(), torch.randn(2, 5, 4)
