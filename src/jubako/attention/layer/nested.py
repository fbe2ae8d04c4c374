"""Nested tensors, which encoders of torch make of padded batches: as padded ones with a mask, and back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from jubako.attention.layer.inputs import AttentionInputError, Call

__all__ = ["pad_nested", "unpad"]


class Padded(NamedTuple):
    """A call with padded tensors, and how long each batch entry really is."""

    call: Call
    lengths: list[int]


def pad_nested(call: Call, *, batch_first: bool) -> Padded:
    """The call with its one nested tensor padded. Torch's layer takes them in the same case only."""
    query = call.query
    if query is not call.key or query is not call.value:
        raise AttentionInputError("nested tensors are taken where query, key and value are the same tensor alone")
    if not batch_first:
        raise AttentionInputError("nested tensors are taken with batch_first=True alone: their first axis is the batch")
    if call.attn_mask is not None or call.key_padding_mask is not None:
        raise AttentionInputError("a nested tensor says itself which keys there are, and a mask was given with it")
    if query.layout != torch.strided:
        raise AttentionInputError(f"nested tensors are taken in the strided layout alone, and this is {query.layout}")
    lengths = [entry.shape[0] for entry in query.unbind()]
    padded = query.to_padded_tensor(0.0)
    places = torch.arange(padded.shape[1], device=padded.device)
    padding = places[None] >= torch.tensor(lengths, device=padded.device)[:, None]
    return Padded(Call(padded, padded, padded, padding, None), lengths)


def unpad(output: Tensor, lengths: list[int]) -> Tensor:
    """The output (B, L, E) as a nested tensor of entries of these lengths."""
    return torch.nested.as_nested_tensor([entry[:length] for entry, length in zip(output, lengths, strict=True)])
