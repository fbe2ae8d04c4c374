"""Layers that normalise queries and keys, turn them, and cap scores: drawn by a seed, computed by torch step by step.

Norms are written out in the ways that the transformers library has them, and torch's own; a place to go wrong is named.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from jubako.attention import Call, Norm, Settings, Weights, precision_of, rotary_of
from jubako.attention.observing.roles import to_array

__all__ = ["WRONGS", "draw_normalised"]

TYPES = ("float32", "float64", "bfloat16", "float16")
WRONGS = {  # what is done wrong, and the step at which that shows
    "no norm": "query_heads",
    "keys are not normalised": "key_heads",
    "one per cent": "query_heads",
    "epsilon 1e-2": "query_heads",
    "turned first": "query_heads",
    "all heads as one": "query_heads",
    "mean not taken off": "query_heads",
    "no cap": "scores",
    "cap after the mask": "scores",
    "capped twice": "scores",
}


def draw_normalised(seed: int, wrong: str = "", dtype: str = "") -> tuple[Call, dict[str, np.ndarray]]:
    """A call, and what torch gave for each step of it, computed in its type."""
    random = np.random.default_rng(seed)
    name = dtype or TYPES[seed % 4]
    kind = "layer" if wrong == "mean not taken off" else ("library", "gemma", "torch", "layer")[(seed // 4) % 4]
    is_whole = wrong not in ("all heads as one", "turned first") and bool(seed // 16 % 2)
    heads = 4 if wrong else int(random.choice([1, 2, 4]))
    groups = int(random.choice([n for n in (1, 2, 4) if heads % n == 0]))
    size = 8 if wrong else 2 * int(random.choice([1, 4, 32]))
    embed, batch, length = int(random.integers(8, 80)), 2, 7 if wrong else int(random.choice([1, 7, 60]))
    torch.manual_seed(seed)
    of_type = getattr(torch, name)

    def draw(*shape: int, mean: float = 0.0, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, dtype=torch.float64) * scale / shape[-1] ** 0.5 + mean).to(of_type)

    scale = 1.0 if wrong else float(random.choice([0.01, 1.0, 30.0]))
    parts = [draw(heads * size, embed, scale=scale), *(draw(groups * size, embed, scale=scale) for _ in range(2))]
    output = draw(9, heads * size)
    offset = 1.0 if kind == "gemma" else 0.0
    norms = [draw(count * size if is_whole else size, mean=1.0 - offset, scale=3.0) for count in (heads, groups)]
    biases = [torch.randn_like(norm) if kind == "layer" and seed % 3 else None for norm in norms]
    cap = float(random.choice([2.0, 20.0])) if wrong or seed % 5 < 3 else None
    rotary = rotary_of(np.arange(length), size) if wrong or seed % 7 < 5 else None
    settings = Settings(
        heads,
        key_heads=groups,
        scale=float(random.uniform(0.2, 2.0)),
        is_causal=bool(seed % 2) or bool(wrong),
        rotary=rotary,
        norm=Norm(1e-6, offset, takes_mean=kind == "layer"),
        softcap=cap,
    )
    arrays = [to_array(each) for each in (*parts, output)]
    extra = {
        "query_norm": to_array(norms[0]),
        "key_norm": to_array(norms[1]),
        "query_norm_bias": None if biases[0] is None else to_array(biases[0]),
        "key_norm_bias": None if biases[1] is None else to_array(biases[1]),
    }
    x = (torch.randn(batch, length, embed, dtype=torch.float64) + float(random.choice([0.0, 2.0]))).to(of_type)
    plain = to_array(x)
    call = Call(Weights(*arrays, **extra), settings, plain, plain, plain, precision_of(name))

    projections = [functional.linear(x, part) for part in parts]
    counts = (heads, groups, groups)

    def cut(projection: Tensor, count: int) -> Tensor:
        return projection.view(batch, length, count, size).transpose(1, 2)

    def finish(place: int) -> Tensor:
        norm, bias, count = norms[place], biases[place], counts[place]
        skips = wrong == "no norm" or (wrong == "keys are not normalised" and place == 1)
        if skips:
            ready = cut(projections[place], count)
        elif is_whole:
            ready = cut(normalise(projections[place], norm, bias, kind, wrong), count)
        elif wrong == "all heads as one":
            wide = None if bias is None else bias.repeat(count)
            ready = cut(normalise(projections[place], norm.repeat(count), wide, kind), count)
        elif wrong == "turned first":
            turned = turn(cut(projections[place], count), rotary)
            return normalise(turned, norm, bias, kind)
        else:
            ready = normalise(cut(projections[place], count), norm, bias, kind, wrong)
        return ready if rotary is None else turn(ready, rotary)

    shared = heads // groups
    q = finish(0)
    k = finish(1).repeat_interleave(shared, dim=1)
    v = cut(projections[2], groups).repeat_interleave(shared, dim=1)
    scores = q @ k.transpose(-1, -2) * settings.scale
    later = torch.ones(length, length, dtype=torch.bool).triu(1) if settings.is_causal else torch.zeros(()).bool()
    times = {"no cap": 0, "capped twice": 2, "cap after the mask": 0}.get(wrong, 1)
    for _ in range(times if cap else 0):
        scores = torch.tanh(scores / cap) * cap
    masked = scores.masked_fill(later, -torch.inf)
    if wrong == "cap after the mask":
        masked = torch.tanh(masked / cap) * cap
    weights = masked.softmax(-1)
    context = weights @ v
    concatenated = context.transpose(1, 2).reshape(batch, length, heads * size)
    values = {
        **dict(zip(("query_projection", "key_projection", "value_projection"), projections, strict=True)),
        "query_heads": q,
        "key_heads": k,
        "value_heads": v,
        "scores": scores,
        "masked_scores": masked,
        "weights": weights,
        "context": context,
        "concatenated": concatenated,
        "output": functional.linear(concatenated, output),
    }
    return call, {step: to_array(value) for step, value in values.items()}


def normalise(x: Tensor, weight: Tensor, bias: Tensor | None, kind: str, wrong: str = "") -> Tensor:
    epsilon = 1e-2 if wrong == "epsilon 1e-2" else 1e-6
    scale = 1.01 if wrong == "one per cent" else 1.0
    if kind == "layer" and wrong != "mean not taken off":
        result = functional.layer_norm(x, x.shape[-1:], weight, bias, epsilon)
        return result * scale if wrong else result
    if kind == "torch" and not wrong:
        return functional.rms_norm(x, x.shape[-1:], weight, epsilon)
    wide = x if x.dtype == torch.float64 else x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon) * scale
    if kind == "gemma":
        return (wide * (1.0 + weight.to(wide.dtype))).to(x.dtype)
    product = weight * wide.to(x.dtype)
    return product if bias is None else product + bias


def turn(heads: Tensor, rotary: object) -> Tensor:
    cosines, sines = (torch.from_numpy(each).to(heads.dtype)[:, None] for each in (rotary.cosines, rotary.sines))
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], dim=-1)
