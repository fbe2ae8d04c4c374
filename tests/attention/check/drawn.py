"""Layers of torch with everything drawn by a seed: for tests that nothing raises a false alarm, and for the bench."""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["TYPES", "draw_layer"]

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
    if random.random() < 0.15:  # scores of some thousands to some millions: weights of 0 and 1
        size = {"float16": 6.0}.get(TYPES[seed % 4], float(random.choice([10.0, 100.0, 1000.0])))
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
    kind = random.integers(0, 8)
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
    if kind > 4:  # a number instead of -inf, and rows in which it stands everywhere
        far = {"float16": -6e4}.get(TYPES[seed % 4], float(random.choice([-1e4, -1e7, -1e9])))
        far = float(torch.finfo(dtype).min) if random.random() < 0.3 and dtype != torch.float16 else far
        mask = torch.zeros(length, keys, dtype=torch.float64).masked_fill(torch.rand(length, keys) < 0.5, far)
        mask[torch.rand(length) < 0.3] = far
        if dtype == torch.float16 and random.random() < 0.5:  # less than which there is nothing but -inf
            mask[:, 0] = 0
            mask[mask < 0] = torch.finfo(dtype).min
        arguments["attn_mask" if kind < 7 or batch != length else "key_padding_mask"] = mask.to(dtype)
    if random.random() < 0.3 and kind < 5:
        lengths = torch.from_numpy(random.integers(1, keys + 1, size=batch))
        arguments["key_padding_mask"] = torch.arange(keys).expand(batch, keys) >= lengths[:, None]
        if kind == 2:
            padding = torch.zeros(batch, keys).masked_fill(arguments["key_padding_mask"], -torch.inf)
            arguments["key_padding_mask"] = padding.to(dtype)
    return module, tuple(inputs), arguments
