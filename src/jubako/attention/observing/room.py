"""Refuses calls that would take more memory than there is, before they are made: from sizes alone."""

from __future__ import annotations

import torch

from jubako.attention.description import Settings
from jubako.attention.inputs import require_memory
from jubako.attention.observing import huggingface, multihead

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["require_room", "require_room_for_tokens"]

_TOKENS = ("input_ids", "inputs_embeds", "decoder_input_ids")


def require_room(module: torch.nn.Module, args: Any, kwargs: Any, memory_bytes: int | None) -> None:
    """SizeError if re-deriving this call of an attention module would not fit; nothing for what is no call of one."""
    measure = multihead.measure_call if multihead.is_multihead(module) else huggingface.measure_call
    try:
        heads, sizes, features = measure(module, args, kwargs)
    except Exception:  # noqa: BLE001  (the model itself is to say what is wrong with its call)
        return
    require_memory(Settings(heads), sizes, features, memory_bytes)


def require_room_for_tokens(model: Any, layers: Iterable[Any], call: tuple[Any, Any], memory_bytes: int | None) -> None:
    """SizeError if a model of the transformers library is called with more tokens than its layers can be checked for.

    Such a model makes masks of L x L before it calls its first layer, which by themselves may be too large. What it is
    called with, `call`, says how many there are only where it is tokens.
    """
    config = getattr(model, "config", None)
    heads = getattr(config, "num_attention_heads", None)
    if not isinstance(heads, int) or all(huggingface.find_reason_against(layer) for layer in layers):
        return
    args, kwargs = call
    given = [kwargs.get(name) for name in _TOKENS] + [each for each in args[:1] if _is_tokens(each)]
    for tensor in given:
        if isinstance(tensor, torch.Tensor) and tensor.ndim >= 2:
            batch, length = tensor.shape[:2]
            features = getattr(config, "hidden_size", heads)
            require_memory(Settings(heads), (batch, length, length), features, memory_bytes)


def _is_tokens(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == 2 and not value.is_floating_point()
