"""The layer: torch's constructor, attributes, state_dict, initial values and forward, and a pass of its own.

What it does otherwise than torch's, on purpose: a query that may see no key has weights of zero and finite gradients;
is_causal is honoured whatever else is given; training and evaluation take the same path. `strict_torch=True` gives
torch's own results instead.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jubako.attention.layer import plain
from jubako.attention.layer.blocks import Pass
from jubako.attention.layer.compiled import is_kernel_fit
from jubako.attention.layer.inputs import (
    AttentionInputError,
    Call,
    Layer,
    check_call,
    check_tensors,
    check_want,
    is_plain_fit,
    leave_inference,
)
from jubako.attention.layer.masks import count_merged, gather_masks
from jubako.attention.layer.memory import estimate_bytes, require_memory, require_room_for_weights
from jubako.attention.layer.nested import pad_nested, unpad
from jubako.attention.layer.steps import Sizes
from jubako.attention.layer.wanted import Attended, Want
from jubako.attention.layer.ways import is_fused, lay_out, run_fused, run_in_steps
from jubako.attention.layer.whole import is_symbolic, is_transformed, run_whole

__all__ = ["MultiheadAttention"]


class MultiheadAttention(nn.MultiheadAttention):
    """Multi-head attention with torch's interface, whose weights cost little and whose masks hold.

    Arguments are those of torch.nn.MultiheadAttention, with the same initial values for the same seed, and one more:
    `strict_torch` hands every call to torch's own forward, its NaN rows and errors included.

    A scripted module (torch.jit.script) computes the same with all weights held at once.
    """

    strict_torch = False  # without a type: TorchScript takes it for a word it has to know

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        strict_torch: bool = False,
    ) -> None:
        if num_heads > 0 and embed_dim % num_heads == 0:  # else torch says what is wrong with them
            require_room_for_weights(embed_dim, kdim, vdim, device, dtype)
        options = (dropout, bias, add_bias_kv, add_zero_attn, kdim, vdim, batch_first, device, dtype)
        super().__init__(embed_dim, num_heads, *options)
        self.strict_torch = strict_torch

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        _guard_fast_path(self)  # the state may be one that torch's layer has made

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in ("strict_torch", "out_proj"):
            _guard_fast_path(self)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The output, and the weights if they are needed: averaged over heads (B, L, S), or of all, (B, H, L, S).

        `query` is (B, L, E) with batch_first, (L, B, E) without, or (L, E); `key` and `value` are alike with S, kdim
        and vdim. The output has the shape of the query; weights of unbatched inputs have no B. `key_padding_mask` is
        (B, S), or (S), and `attn_mask` (L, S) or (B*H, L, S): True forbids, numbers are added to scores. `is_causal`
        forbids query i the keys after key i, besides what the masks forbid, also where L is not S. Keys that the layer
        itself appends are last in S, and masks leave them alone. Under dropout the weights returned are those applied:
        dropped, and rescaled.

        Raises AttentionInputError with all that does not fit, and SizeError if it would not fit into memory.
        """
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self._forward_scripted(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        else:
            if self.strict_torch:
                return super().forward(
                    query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
                )
            want = Want(
                averaged=need_weights and average_attn_weights, per_head=need_weights and not average_attn_weights
            )
            found = self._run(Call(query, key, value, key_padding_mask, attn_mask), want, is_causal=is_causal)
            return found.output, found.averaged if average_attn_weights else found.per_head

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        want: Want,
        *,
        key_padding_mask: Tensor | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Attended:
        """The output and all that `want` names, from one pass. Arguments are as in `forward`; so is what it raises.

        Not to be had of a layer that is `strict_torch`.
        """
        if self.strict_torch:
            raise AttentionInputError("a layer with strict_torch=True computes as torch does, which gives no extras")
        check_want(want)
        return self._run(Call(query, key, value, key_padding_mask, attn_mask), want, is_causal=is_causal)

    def _run(self, call: Call, want: Want, *, is_causal: bool) -> Attended:
        """One pass over inputs as they were given."""
        layer = self._describe()
        if is_plain_fit(call, layer):
            return self._run_batch(call, want, is_causal=is_causal)
        check_tensors(call)
        if call.query.is_nested:
            padded = pad_nested(call, batch_first=self.batch_first)
            found = self._run(padded.call, want, is_causal=is_causal)
            return found._replace(output=unpad(found.output, padded.lengths))
        check_call(call, layer)
        if call.query.dim() == 3:
            return self._run_batch(call, want, is_causal=is_causal)
        axis = 0 if self.batch_first else 1
        inputs = plain.add_batch(call.query, call.key, call.value, axis)
        padding = None if call.key_padding_mask is None else call.key_padding_mask.unsqueeze(0)
        found = self._run_batch(Call(*inputs, padding, call.attn_mask), want, is_causal=is_causal)
        single = [None if x is None else x.squeeze(0) for x in found[1:]]
        return Attended(found.output.squeeze(axis), *single)

    def _run_batch(self, call: Call, want: Want, *, is_causal: bool) -> Attended:
        sizes = self._size(call)
        todo = Pass(sizes, want, self.dropout if self.training else 0.0)
        weights, bias = self._list_weights(), self.in_proj_bias
        involved = (*call, *weights, bias)
        has_sizes = not is_symbolic(involved)
        is_whole = not has_sizes or is_transformed(involved)
        if has_sizes and torch.is_grad_enabled():
            call = leave_inference(call)
        padding, attn_mask = call.key_padding_mask, call.attn_mask
        masks = gather_masks(attn_mask, padding, is_causal=is_causal, sizes=sizes, may_look=not is_whole)
        is_by_torch = not is_whole and is_fused(call.query, masks, todo)
        if has_sizes:
            held = "all" if is_whole else "none" if is_by_torch else "step"
            is_in_steps = held == "step" and not is_kernel_fit(call.query, masks, todo)
            mask_items = 0 if is_in_steps else count_merged(masks, sizes)
            parts = estimate_bytes(sizes, want, _count_item_bytes(call.query), held=held, mask_items=mask_items)
            require_memory(parts, sizes, call.query.device)
        heads = self._project(call.query, call.key, call.value, weights, bias)
        if is_whole:
            kept = plain.draw_kept(*heads[:2], todo.dropout)
            found = run_whole(plain.scale(heads[0]), *heads[1:], masks, todo, kept)
        elif is_by_torch:
            found = run_fused(*heads, masks, todo)
        else:
            heads = lay_out(*heads)  # the projections in one piece go with the last view of them
            found = run_in_steps(*heads, masks, todo)
        del heads
        context = plain.join_heads(found.output, self.batch_first)
        return found._replace(output=F.linear(context, self.out_proj.weight, self.out_proj.bias))

    def _project(
        self, query: Tensor, key: Tensor, value: Tensor, weights: list[Tensor | None], bias: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The heads (B, H, L, D) of queries, and (B, H, S, D) of keys and values, with those that are appended."""
        q, k, v = plain.project(query, key, value, weights, bias)
        q, k, v = (
            plain.split_heads(q, self.num_heads, self.batch_first),
            plain.split_heads(k, self.num_heads, self.batch_first),
            plain.split_heads(v, self.num_heads, self.batch_first),
        )
        k = plain.append_keys(k, self.bias_k, self.add_zero_attn)
        v = plain.append_keys(v, self.bias_v, self.add_zero_attn)
        return q, k, v

    def _list_weights(self) -> list[Tensor | None]:
        """The weights of query, key and value, or all in one and two None."""
        if self._qkv_same_embed_dim:
            return [self.in_proj_weight, None, None]
        return [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]

    def _size(self, call: Call) -> Sizes:
        """The axes of the scores of a batched call."""
        rows, batch = (1, 0) if self.batch_first else (0, 1)
        entries, length, appended = call.query.size(batch), call.query.size(rows), self._count_appended()
        return Sizes(entries, self.num_heads, length, call.key.size(rows) + appended, self.head_dim, appended)

    def _count_appended(self) -> int:
        return int(self.bias_k is not None) + int(self.add_zero_attn)

    def _describe(self) -> Layer:
        weight = self.out_proj.weight
        widths = (self.embed_dim, self.kdim, self.vdim)
        return Layer(widths, self.num_heads, self.batch_first, weight.dtype, weight.device)

    def _forward_scripted(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        need_weights: bool,
        attn_mask: Tensor | None,
        average_attn_weights: bool,
        is_causal: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """`forward` in what TorchScript knows."""
        if self.strict_torch:
            raise RuntimeError(
                "a layer with strict_torch=True can't be scripted: script torch's own with its state_dict"
            )
        plain.require_fit(query, key, value, self.batch_first)
        is_batched = query.dim() == 3
        axis = 0 if self.batch_first else 1
        if not is_batched:
            query, key, value = plain.add_batch(query, key, value, axis)
            if key_padding_mask is not None:
                key_padding_mask = key_padding_mask.unsqueeze(0)
        plain.require_masks_fit(query, key, [key_padding_mask, attn_mask], self.num_heads, self.batch_first)
        q, k, v = self._project(query, key, value, self._list_weights(), self.in_proj_bias)
        appended = self._count_appended()
        if attn_mask is not None:
            attn_mask = plain.shape_mask(attn_mask, self.num_heads, appended)
        if key_padding_mask is not None:
            key_padding_mask = F.pad(key_padding_mask, [0, appended])
        causal: tuple[int, int, int] | None = None
        if is_causal:
            causal = (q.size(2), k.size(2), appended)
        mask = plain.merge_masks(attn_mask, key_padding_mask, causal, q)
        kept = plain.draw_kept(q, k, float(self.dropout) if self.training else 0.0)
        context, weights, _ = plain.attend(plain.scale(q), k, v, mask, kept)
        output = F.linear(plain.join_heads(context, self.batch_first), self.out_proj.weight, self.out_proj.bias)
        if not is_batched:
            output, weights = output.squeeze(axis), weights.squeeze(0)
        if not need_weights:
            return output, None
        return output, weights.mean(-3) if average_attn_weights else weights


def _count_item_bytes(query: Tensor) -> int:
    """How large a number is in the heads that are made of this query."""
    kind = query.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind).itemsize
    return query.element_size()


def _guard_fast_path(module: MultiheadAttention) -> None:
    """Makes encoder layers of torch call the forward of `module` instead of computing its attention past it.

    They do that where they find a hook in any module below them. This one is on the output projection, which is never
    called as a module, so it costs nothing. A layer that is `strict_torch` has none.
    """
    hooks = module.out_proj._forward_pre_hooks
    placed = [key for key, hook in hooks.items() if hook is _stay_off_fast_path]
    if module.strict_torch:
        for key in placed:
            del hooks[key]
    elif not placed:
        module.out_proj.register_forward_pre_hook(_stay_off_fast_path)


def _stay_off_fast_path(self: Any, input: tuple[Tensor]) -> None:
    """A hook that does nothing. TorchScript asks for these names."""
