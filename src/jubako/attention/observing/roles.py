"""Finds the steps of attention in a trace: which of all the tensors are the projections, the scores, the weights.

It goes by structure and by sizes, never by values: two products of tensors of which neither is a weight, the second
one taking what became of the first, are the scores and the context; back from their operands to a product with a
weight are the projections; forward from the context to one is the output. What a fused kernel keeps to itself is not
found, and so not observable. Where the same numbers could be (L, B) or (B, L), what is nearer the reference is taken.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from jubako.attention.observing.graph import (
    PRODUCTS,
    adds_constant,
    after_rounding,
    ancestors,
    before_layout,
    before_rounding,
    between,
    factor,
    find_linear,
    forward,
    ignores_addend,
    is_layout,
    is_rounding,
    operands,
)
from jubako.errors import InputError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jubako.attention.description import Array
    from jubako.attention.observing.trace import Node, Trace

__all__ = ["Sizes", "find_steps", "to_array"]

_FUSED = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)
_MASKS = {"add", "add_", "masked_fill", "masked_fill_", "where", "sub", "baddbmm"}
_CAPS = {"tanh", "tanh_"}  # between two factors: scores that are capped
_SOFTMAX = {"_softmax", "softmax", "_safe_softmax"}


@record
class Sizes:
    """Of a call: B, L, S with what is appended, H, D, and how many heads keys have."""

    batch: int
    length: int
    keys: int
    keys_given: int  # without what is appended
    heads: int
    groups: int
    size: int
    dtype: str  # of the weights

    @property
    def maps(self) -> int:
        """How many numbers scores and weights have."""
        return self.batch * self.heads * self.length * self.keys


def find_steps(trace: Trace, sizes: Sizes, reference: Mapping[str, Array], *, is_training: bool) -> dict[str, Array]:
    """What was found, batch first. "dropped_weights" are the weights after dropout, where that is in the way."""
    found = _Finder(trace.nodes, sizes, reference, sizes.dtype)
    found.look(is_training=is_training)
    return found.values


def to_array(tensor: torch.Tensor) -> Array:
    """The numbers of a tensor in a type that NumPy has and that holds them. InputError for one that shows none."""
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        raise InputError("a call within a transform of torch.func, such as vmap or grad, is not looked into")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        what = "on meta" if tensor.is_meta else "quantized" if tensor.is_quantized else f"of layout {tensor.layout}"
        raise InputError(f"a tensor is {what}: what is checked is made of tensors that hold their numbers")
    plain = tensor.detach().to("cpu")
    if plain.is_floating_point() and plain.element_size() < 2:
        raise InputError(f"a tensor is of type {str(plain.dtype).removeprefix('torch.')}, which is not re-derived")
    if plain.dtype in (torch.bfloat16, torch.float16):
        plain = plain.to(torch.float32)
    return plain.resolve_conj().resolve_neg().numpy()


class _Finder:
    def __init__(self, nodes: Sequence[Node], sizes: Sizes, reference: Mapping[str, Array], dtype: str) -> None:
        self._nodes = nodes
        self._dtype = getattr(torch, dtype)
        self._sizes = sizes
        self._reference = reference
        self.values: dict[str, Array] = {}

    def look(self, *, is_training: bool) -> None:
        fused = next((node for node in self._nodes if node.op in _FUSED), None)
        if fused is not None:
            self._look_at_fused(fused)
            return
        s = self._sizes
        for score in self._products(s.maps):
            after = [n for n in self._products(s.batch * s.heads * s.length * s.size) if n.index > score.index]
            for context in after:
                weights = operands(context)[0]
                if score in ancestors(weights):
                    self._look_at_products(score, context, weights, is_training=is_training)
                    return

    def _products(self, count: int) -> list[Node]:
        """Products of two tensors that are no weights, with so many numbers."""
        return [
            node
            for node in self._nodes
            if node.op in PRODUCTS and node.tensor.numel() == count and not any(o.is_constant for o in operands(node))
        ]

    def _look_at_products(self, score: Node, context: Node, weights: Node, *, is_training: bool) -> None:
        queries, keys = operands(score)
        self._take_inputs(queries, keys, operands(context)[1], keys_are_turned=True)
        path = between(score, weights)
        softmax = next((node for node in reversed(path) if node.op in _SOFTMAX), None)
        end = score
        is_plain = score.op != "baddbmm" or ignores_addend(score)
        if is_plain:
            for node in path[1:]:
                is_known = is_layout(node) or factor(node) is not None or node.op in _CAPS
                if is_rounding(node, self._dtype) or not is_known:
                    break
                end = node
            self._take_map("scores", end)
        masked = end
        for node in path[path.index(end) + 1 :]:
            if node.op not in _MASKS and not is_layout(node):
                break
            masked = node
        before_softmax = masked if softmax is None else softmax.inputs[0]
        self._take_map("masked_scores", before_rounding(before_softmax, self._dtype))
        used = before_layout(weights, self._dtype)
        if is_training and softmax is not None and softmax is not used:
            self._take_map("weights", softmax)
            self._take_map("dropped_weights", used)
        else:
            self._take_map("weights", used)
        rounded = after_rounding(context, self._nodes, self._dtype)
        self._take("context", _reshaped(rounded.value, self._heads_shape("query")))
        self._take_outputs(context)

    def _look_at_fused(self, fused: Node) -> None:
        queries, keys, values = fused.inputs[:3]
        self._take_inputs(queries, keys, values, keys_are_turned=False)
        for step, node in (("key_heads", keys), ("value_heads", values)):
            if step not in self.values and node.tensor.ndim == 4 and node.tensor.shape[2] != self._sizes.keys:
                self._take(step, node.value)  # of another shape than is right: that is told
        self._take("context", self._unfolded(fused.value))
        self._take_outputs(fused)

    def _take_inputs(self, queries: Node, keys: Node, values: Node, *, keys_are_turned: bool) -> None:
        for which, node in (("query", queries), ("key", keys), ("value", values)):
            linear = find_linear(node)
            scaled = 1.0
            source = node
            if linear is not None:
                self._take_projection(which, linear, node)
                for each in reversed(between(linear, node)):
                    own = factor(each)
                    if own is not None and which != "value":  # nobody scales values: that would be an error
                        scaled *= own
                        source = each.inputs[0]
            elif any(factor(each) is not None for each in ancestors(node)):
                continue  # what was scaled after the projection cannot be told from what was scaled before it
            exact = before_rounding(node, self._dtype)
            if scaled == 1.0:
                heads = self._as_heads(
                    which, exact.value, is_turned=which == "key" and keys_are_turned and exact is node
                )
            else:
                heads = self._before_scaling(which, source)  # scaled earlier, when they were no heads yet: not seen
            self._take(f"{which}_heads", heads)

    def _before_scaling(self, which: str, source: Node) -> torch.Tensor | None:
        """Heads before they were scaled, upright or turned, whichever is nearer the reference; None if neither fits."""
        expected = self._reference[f"{which}_heads"]
        both = [self._as_heads(which, source.value, is_turned=is_turned) for is_turned in (False, True)]
        fitting = [heads for heads in both if heads is not None]
        return min(fitting, key=lambda heads: _distance(to_array(heads), expected), default=None)

    def _as_heads(self, which: str, value: torch.Tensor, *, is_turned: bool) -> torch.Tensor | None:
        """(B, H, S, D) from what a product takes, in which keys are turned, (B, H, D, S), or a fused kernel."""
        shape = self._heads_shape(which)
        upright = value.transpose(-1, -2) if is_turned else value
        heads = self._unfolded(upright) if which == "query" else _reshaped(upright, shape)
        if heads is None and which == "key" and not is_turned:  # it was turned before it was rounded
            heads = _reshaped(value.transpose(-1, -2), shape)
        return self._share(upright) if heads is None else heads

    def _heads_shape(self, which: str) -> tuple[int, ...]:
        s = self._sizes
        return (s.batch, s.heads, s.length if which == "query" else s.keys, s.size)

    def _unfolded(self, value: torch.Tensor) -> torch.Tensor | None:
        """(B, H, L, D) of queries and contexts; for a query of one row kernels take heads that share keys for rows."""
        s = self._sizes
        if s.length == 1 and value.shape == (s.batch, s.groups, s.heads // s.groups, s.size):
            return value.reshape(s.batch, s.heads, 1, s.size)
        return _reshaped(value, self._heads_shape("query"))

    def _share(self, value: torch.Tensor) -> torch.Tensor | None:
        """Keys and values of fewer heads than queries have, as a fused kernel takes them."""
        s = self._sizes
        if value.shape != (s.batch, s.groups, s.keys, s.size):
            return None
        return value.repeat_interleave(s.heads // s.groups, dim=1)

    def _take_projection(self, which: str, linear: Node, heads: Node) -> None:
        s = self._sizes
        rows = s.length if which == "query" else s.keys_given
        width = (s.heads if which == "query" else s.groups) * s.size
        candidates: list[Node] = []
        for node in between(linear, heads):
            is_bias = adds_constant(node)
            if not (node is linear or is_layout(node) or is_bias):
                break
            if is_bias:
                candidates.clear()  # the sum with the bias is what counts
            if node.tensor.numel() == s.batch * rows * width and node.tensor.shape[-1] == width:
                candidates.append(node)
        self._take_rows(f"{which}_projection", candidates, rows)

    def _take_outputs(self, context: Node) -> None:
        s = self._sizes
        width = s.heads * s.size
        for node in self._nodes[context.index + 1 :]:
            if node.op not in PRODUCTS:
                continue
            both = operands(node)
            joined = next((o for o in both if not o.is_constant), None)
            if joined is None or not any(o.is_constant for o in both) or context not in ancestors(joined):
                continue
            candidates = [n for n in between(context, joined) if n.tensor.shape[-1:] == (width,) and n is not context]
            self._take_rows(
                "concatenated", [n for n in candidates if n.tensor.ndim == 3][-1:] or candidates[-1:], s.length
            )
            self._take_rows("output", forward(node, self._nodes), s.length)
            return
        laid_out = forward(context, self._nodes)
        self._take_rows("concatenated", [n for n in laid_out if n.tensor.shape[-1:] == (width,)][-1:], s.length)

    def _take_rows(self, step: str, candidates: Sequence[Node], rows: int) -> None:
        """The first candidate with three axes, else the last with two; where B and L could be either, the nearer."""
        batch = self._sizes.batch
        whole = [node for node in candidates if node.tensor.ndim == 3] or list(candidates[-1:])
        if not whole:
            return
        value = to_array(whole[0].value)
        width = value.shape[-1]
        options = []
        if value.ndim == 2 or value.shape[:2] == (batch, rows):
            options.append(value.reshape(batch, rows, width))
        if value.ndim == 2 or value.shape[:2] == (rows, batch):
            options.append(value.reshape(rows, batch, width).swapaxes(0, 1))
        expected = self._reference[step]
        options = [option for option in options if option.shape == expected.shape]
        if options:
            nearest = min(options, key=lambda option: _distance(option, expected)) if len(options) > 1 else options[0]
            self.values[step] = nearest

    def _take_map(self, step: str, node: Node) -> None:
        s = self._sizes
        value = node.value
        if value.numel() == s.maps and value.shape[-2:] == (s.length, s.keys):
            self._take(step, value.reshape(s.batch, s.heads, s.length, s.keys))

    def _take(self, step: str, value: torch.Tensor | None) -> None:
        if value is not None:
            self.values[step] = to_array(value)


def _reshaped(value: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor | None:
    """Heads as (B, H, L, D) from (B*H, L, D) or what is so already."""
    if value.numel() != math.prod(shape) or value.shape[-2:] != shape[-2:]:
        return None
    return value.reshape(shape)


def _distance(option: Array, expected: Array) -> float:
    with np.errstate(all="ignore"):
        return float(np.nan_to_num(np.abs(option - expected), nan=np.inf).sum())
