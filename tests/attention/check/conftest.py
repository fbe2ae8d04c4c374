"""What tests of the checker share: one thread each for torch and NumPy, for steadiness, and torch's layers at hand."""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would start threads, and other tests fork this process

import numpy as np
import pytest
import torch

from jubako.attention.description import Settings, Weights

torch.set_num_threads(1)


def weights_of(module: torch.nn.MultiheadAttention) -> Weights:
    """The weights of torch's layer, read here once more, apart from what the checker does."""
    packed = module.in_proj_weight
    if packed is not None:
        query, key, value = packed.detach().chunk(3)
    else:
        query, key, value = (
            weight.detach() for weight in (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
        )
    biases = [None] * 3 if module.in_proj_bias is None else list(module.in_proj_bias.detach().chunk(3))

    def array(tensor: torch.Tensor | None) -> np.ndarray | None:
        return None if tensor is None else tensor.detach().to(torch.float64).numpy()

    return Weights(
        query=array(query),
        key=array(key),
        value=array(value),
        output=array(module.out_proj.weight),
        query_bias=array(biases[0]),
        key_bias=array(biases[1]),
        value_bias=array(biases[2]),
        output_bias=array(module.out_proj.bias),
        added_key=None if module.bias_k is None else array(module.bias_k).reshape(-1),
        added_value=None if module.bias_v is None else array(module.bias_v).reshape(-1),
    )


def settings_of(module: torch.nn.MultiheadAttention, **others: object) -> Settings:
    return Settings(heads=module.num_heads, adds_zero=module.add_zero_attn, batch_first=module.batch_first, **others)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(20240229)
