"""What a norm, or a turn by position, of the transformers library does, found out by trying it on a few numbers.

There are several kinds of each, under the same names. Trying tells the kind apart, and nothing finer: the numbers that
a check compares with follow from the kind, so a norm that is a little wrong is still found. What is of no known kind is
not re-derived.
"""

from __future__ import annotations

import ast
import inspect
import textwrap

import numpy as np
import torch

from jubako.attention.description import Norm
from jubako.attention.observing.roles import to_array
from jubako.attention.reference import normalise
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from jubako.attention.description import Array, Pairing

__all__ = ["TURN", "describe_norm", "find_pairing", "forward_of_library", "turns_heads"]

_EPSILONS = ("variance_epsilon", "eps", "epsilon")
_CLOSE = 0.05  # kinds differ by far more, and roundings by far less
_COSINE, _SINE = 0.6, 0.8
TURN = "apply_rotary_pos_emb"
_CONDITIONS: dict[str, Callable[[Any], bool]] = {  # as the library's code has them: whether this module turns its heads
    "position_embeddings is not None": lambda module: True,  # which a call says
    "self.use_rope": lambda module: bool(module.use_rope),
    "self.sliding_window is not None": lambda module: module.sliding_window is not None,
    "self.sliding_window is None or self.is_sliding": lambda module: module.sliding_window is None or module.is_sliding,
}


def forward_of_library(module: Any) -> Any:
    """Its `forward`, if that is one of the transformers library's."""
    forward = inspect.unwrap(type(module).forward)
    return forward if getattr(forward, "__module__", "").startswith("transformers.") else None


def describe_norm(module: Any) -> tuple[Norm, Array, Array | None] | None:
    """The kind of a norm, its weights and its bias; None if it is of no kind that is known."""
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    epsilon = next((value for name in _EPSILONS if isinstance(value := getattr(module, name, None), float)), None)
    if not isinstance(weight, torch.Tensor) or weight.ndim > 2 or epsilon is None:
        return None
    draw = np.random.default_rng(0).normal(1.0, 2.0, size=(1, 3, *weight.shape))
    rows = torch.from_numpy(draw).to(weight)
    try:
        with torch.no_grad(), torch.autocast(rows.device.type, enabled=False):
            given = to_array(type(module).forward(module, rows))
    except Exception:  # noqa: BLE001  (the module's own code, called in a way that it may not be meant to be)
        return None
    arrays = to_array(weight), None if bias is None else to_array(bias)
    kinds = [Norm(epsilon, offset, takes_mean) for takes_mean in (False, True) for offset in (0.0, 1.0)]
    shares = [_share_off(given, normalise(to_array(rows).astype(np.float64), *arrays, norm)) for norm in kinds]
    nearest = int(np.argmin(shares))  # weights that are large are nearly the same less 1
    return (kinds[nearest], *arrays) if shares[nearest] <= _CLOSE else None


def _share_off(given: Array, expected: Array) -> float:
    """How far a norm is off, as a share of its largest number."""
    if given.shape != expected.shape:
        return np.inf
    return float(np.abs(given - expected).max() / max(np.abs(expected).max(), np.finfo(np.float64).tiny))


def turns_heads(module: Any) -> bool:
    """False for a module of the library that leaves its heads as they are, other than its kin: some do in some layers.

    InputError if it turns them on a condition that is not known.
    """
    forward = forward_of_library(module)
    if forward is None or TURN not in forward.__code__.co_names:
        return True
    tree = ast.parse(textwrap.dedent(inspect.getsource(forward)))
    for node in ast.walk(tree):
        calls = {getattr(each.func, "id", "") for each in ast.walk(node) if isinstance(each, ast.Call)}
        if not isinstance(node, (ast.If, ast.IfExp)) or TURN not in calls:
            continue
        said = ast.unparse(node.test)
        if said not in _CONDITIONS:
            raise InputError(f"{type(module).__name__} turns heads by position if {said}, which is not re-derived")
        if not _CONDITIONS[said](module):
            return False
    return True


def find_pairing(module: Any, table: torch.Tensor) -> Pairing | None:
    """Which features of a head are turned together, by what the library turns them with; None if that is not known.

    `table` has the cosines, for its width and type. InputError if they are turned in a way that is not re-derived.
    """
    forward = forward_of_library(module)
    turn = None if forward is None else forward.__globals__.get(TURN)
    if turn is None or TURN not in forward.__code__.co_names:
        return None
    width = table.shape[-1]
    query = torch.zeros(1, 1, 1, width, dtype=table.dtype)
    query[..., 0] = 1.0
    tables = [torch.full((1, 1, width), number, dtype=table.dtype) for number in (_COSINE, _SINE)]
    try:
        with torch.no_grad(), torch.autocast(table.device.type, enabled=False):
            turned = to_array(turn(query, query.clone(), *tables)[0]).reshape(-1)
    except Exception as error:  # the library's own code, called otherwise than it calls it
        raise InputError(f"{type(module).__name__} turns heads by position in a way that is not re-derived") from error
    partners = np.flatnonzero(np.abs(turned[1:]) > _CLOSE) + 1
    if turned.shape == (width,) and abs(turned[0] - _COSINE) < _CLOSE and len(partners) == 1:
        partner = int(partners[0])
        if abs(turned[partner] - _SINE) < _CLOSE:
            if partner == 1 and width > 2:
                return "interleaved"
            if partner * 2 == width:
                return "halves"
    raise InputError(f"{type(module).__name__} turns heads by position in a way that is not re-derived")
