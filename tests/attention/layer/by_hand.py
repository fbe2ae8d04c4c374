"""Multi-head attention in float64, head by head and row by row, as plain as can be; what the layer is compared with."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["assert_near", "attend_by_hand"]


@torch.no_grad()
def attend_by_hand(
    module: nn.MultiheadAttention,
    inputs: tuple[Tensor, Tensor, Tensor],
    padding: Tensor | None = None,
    attn_mask: Tensor | None = None,
    *,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor, float]:
    """The output, in the order of the query's axes, the weights of all heads (B, H, L, S), or without B, and how large
    a score gets, masks aside.
    """
    is_batched = inputs[0].dim() == 3
    query, key, value = (_batch_first(module, x.double()) for x in inputs)
    weights = {name: parameter.double() for name, parameter in module.named_parameters()}
    width, heads = module.embed_dim, module.num_heads
    if "in_proj_weight" in weights:
        to_q, to_k, to_v = weights["in_proj_weight"].split(width)
    else:
        to_q, to_k, to_v = (weights[f"{name}_proj_weight"] for name in "qkv")
    bias = weights.get("in_proj_bias", torch.zeros(3 * width, dtype=torch.float64))
    q, k, v = query @ to_q.T + bias[:width], key @ to_k.T + bias[width : 2 * width], value @ to_v.T + bias[2 * width :]
    seen_by_all = 0
    if "bias_k" in weights:
        rows = (q.shape[0], 1, width)
        k, v = torch.cat([k, weights["bias_k"].expand(rows)], 1), torch.cat([v, weights["bias_v"].expand(rows)], 1)
        seen_by_all += 1
    if module.add_zero_attn:
        zeros = torch.zeros(q.shape[0], 1, width, dtype=torch.float64)
        k, v = torch.cat([k, zeros], 1), torch.cat([v, zeros], 1)
        seen_by_all += 1
    batch, length, keys, size = q.shape[0], q.shape[1], k.shape[1], width // heads
    maps = torch.zeros(batch, heads, length, keys, dtype=torch.float64)
    context = torch.zeros(batch, length, width, dtype=torch.float64)
    largest = 0.0
    for b in range(batch):
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            for i in range(length):
                scores = k[b, :, part] @ q[b, i, part] / math.sqrt(size)
                largest = max([largest, *scores.abs().tolist()])
                for j in range(keys - seen_by_all):
                    if padding is not None:
                        scores[j] += _added(padding[b, j] if is_batched else padding[j])
                    if attn_mask is not None:
                        mask = attn_mask if attn_mask.dim() == 2 else attn_mask[b * heads + h]
                        scores[j] += _added(mask[i, j])
                    if is_causal and j > i:
                        scores[j] = -math.inf
                if (scores != -math.inf).any():
                    powers = torch.exp(scores - scores.max())
                    maps[b, h, i] = powers / powers.sum()
                context[b, i, part] = maps[b, h, i] @ v[b, :, part]
    output = context @ weights["out_proj.weight"].T + weights.get("out_proj.bias", 0.0)
    if not is_batched:
        return output[0], maps[0], largest
    return output if module.batch_first else output.transpose(0, 1), maps, largest


def assert_near(found: Tensor, expected: Tensor, largest_score: float = 1.0) -> None:
    """Equal but for rounding in the dtype of what was found, which scores carry into weights by their size."""
    unit = torch.finfo(found.dtype).eps / 2
    bound = 32 * unit * (1.0 + largest_score)
    torch.testing.assert_close(
        found.detach().double(), expected.detach().double(), rtol=0.0, atol=bound * (1.0 + _most(expected))
    )


def _most(x: Tensor) -> float:
    return float(x.detach().abs().max()) if x.numel() else 0.0


def _batch_first(module: nn.MultiheadAttention, x: Tensor) -> Tensor:
    if x.dim() == 2:
        return x.unsqueeze(0)
    return x if module.batch_first else x.transpose(0, 1)


def _added(mask: Tensor) -> float:
    if mask.dtype == torch.bool:
        return -math.inf if mask else 0.0
    return float(mask)
