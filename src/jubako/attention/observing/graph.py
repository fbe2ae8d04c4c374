"""Ways through a trace: what a tensor follows from, what lies between two, what becomes of one."""

from __future__ import annotations

import torch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from jubako.attention.observing.trace import Node

__all__ = [
    "PRODUCTS",
    "adds_constant",
    "after_rounding",
    "ancestors",
    "before_layout",
    "before_rounding",
    "between",
    "factor",
    "find_linear",
    "forward",
    "ignores_addend",
    "is_layout",
    "is_rounding",
    "operands",
]

PRODUCTS = {"mm": (0, 1), "bmm": (0, 1), "matmul": (0, 1), "linear": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2)}
_LAYOUT = {
    *("view", "_unsafe_view", "reshape", "transpose", "permute", "expand", "clone", "contiguous", "t", "unsqueeze"),
    *("squeeze", "slice", "select", "split", "split_with_sizes", "unbind", "alias", "detach", "_to_copy", "as_strided"),
    *("_reshape_alias", "unsafe_split", "chunk", "flatten", "unflatten", "dropout"),
}


def operands(node: Node) -> list[Node]:
    """The two factors of a product."""
    return [node.inputs[place] for place in PRODUCTS[node.op]]


def ancestors(node: Node) -> set[Node]:
    """All tensors that one follows from, itself included."""
    found, ahead = {node}, [node]
    while ahead:
        for each in ahead.pop().inputs:
            if each not in found:
                found.add(each)
                ahead.append(each)
    return found


def between(start: Node, end: Node) -> list[Node]:
    """What lies on the way from one tensor to another, both included, in order."""
    reached = {start}
    path = [start]
    for node in sorted(ancestors(end), key=lambda n: n.index):
        if node not in reached and any(each in reached for each in node.inputs):
            reached.add(node)
            path.append(node)
    return path


def find_linear(node: Node) -> Node | None:
    """The product with a weight that a tensor follows from, if there is exactly one with none after it."""
    found: set[Node] = set()
    seen, ahead = {node}, [node]
    while ahead:
        current = ahead.pop()
        if current.op in PRODUCTS and sum(each.is_constant for each in operands(current)) == 1:
            found.add(current)
            continue
        fresh = [each for each in current.inputs if each not in seen]
        seen.update(fresh)
        ahead += fresh
    return found.pop() if len(found) == 1 else None


def forward(start: Node, nodes: Iterable[Node]) -> list[Node]:
    """What becomes of a tensor by being laid out otherwise or getting its bias; after the bias, only that."""
    chain, current = [start], start
    for node in nodes:
        if node.index > start.index and current in node.inputs:
            if adds_constant(node):
                chain.clear()
            elif not is_layout(node):
                continue
            chain.append(node)
            current = node
    return chain


def is_layout(node: Node) -> bool:
    return node.op in _LAYOUT


def adds_constant(node: Node) -> bool:
    """True for the sum of a tensor and its bias."""
    return node.op in ("add", "add_") and any(each.is_constant for each in node.inputs)


def factor(node: Node) -> float | None:
    """What a tensor is multiplied by as a whole; None if that is not what happens."""
    if node.op not in ("mul", "mul_", "div", "div_"):
        return None
    numbers = [each for each in node.arguments[:2] if isinstance(each, (int, float))]
    numbers += [float(each.value) for each in node.inputs if each.tensor.ndim == 0]
    if len(numbers) != 1 or numbers[0] == 0:
        return None
    return float(numbers[0]) if node.op.startswith("mul") else 1 / float(numbers[0])


def before_layout(node: Node, dtype: torch.dtype) -> Node:
    """The same numbers before they were laid out otherwise, or rounded to a type less precise than `dtype`."""
    while is_layout(node) and node.inputs and node.inputs[0].tensor.numel() == node.tensor.numel():
        if node.op == "_to_copy" and not is_rounding(node, dtype):
            break
        node = node.inputs[0]
    return node


def before_rounding(node: Node, dtype: torch.dtype) -> Node:
    """What a tensor was before it was rounded to a type less precise than `dtype`; itself if it was not."""
    source = node
    while is_layout(source) and source.inputs and source.inputs[0].tensor.numel() == source.tensor.numel():
        if is_rounding(source, dtype):
            return source.inputs[0]
        source = source.inputs[0]
    return node


def after_rounding(node: Node, nodes: Iterable[Node], dtype: torch.dtype) -> Node:
    """What becomes of a tensor that is more precise than `dtype` where it is rounded to that; itself if it is not."""
    if node.tensor.dtype == dtype:
        return node
    return next((each for each in forward(node, nodes) if each.op == "_to_copy" and each.tensor.dtype == dtype), node)


def is_rounding(node: Node, dtype: torch.dtype) -> bool:
    """True if that is where a tensor is rounded to a type less precise than `dtype`."""
    own = node.tensor.dtype
    return node.op == "_to_copy" and own.is_floating_point and torch.finfo(own).eps > torch.finfo(dtype).eps


def ignores_addend(node: Node) -> bool:
    """True if a product that could add something does not: its beta is 0."""
    return any(isinstance(each, (int, float)) and each == 0 for each in node.arguments)
