"""Putting the layer in the place of torch's: one of them, or all in a model, those in encoder layers included."""

from __future__ import annotations

import copy
from typing import NamedTuple, TypeVar

from torch import nn

from jubako.attention.layer.inputs import AttentionInputError
from jubako.attention.layer.module import MultiheadAttention

__all__ = ["Replacement", "from_torch", "replace_in"]

Module = TypeVar("Module", bound=nn.Module)


class Replacement(NamedTuple):
    """What `replace_in` did, by the names of modules in the model.

    `replaced` are the layers that are ours now, also those under a second name; `left` are layers that stayed what they
    were, each with the reason; `without_nesting` are encoders that make no nested tensors of padded batches any more.
    """

    replaced: tuple[str, ...]
    left: tuple[tuple[str, str], ...]
    without_nesting: tuple[str, ...]

    def describe(self) -> str:
        """The same as lines of text."""
        lines = [f"replaced {name}" for name in self.replaced]
        lines += [f"left {name}: {reason}" for name, reason in self.left]
        lines += [f"{name or 'the model'} makes no nested tensors any more" for name in self.without_nesting]
        return "\n".join(lines) if lines else "there is no torch.nn.MultiheadAttention in it"


def from_torch(module: nn.MultiheadAttention, *, strict_torch: bool = False) -> MultiheadAttention:
    """A layer of ours with the parameters, the mode and the hooks of torch's, which stays as it is.

    The parameters are the same objects: an optimizer that has them goes on, and training one layer trains both. Raises
    AttentionInputError for a subclass, whose forward is its own.
    """
    if not isinstance(module, nn.Module):
        raise AttentionInputError(f"what is replaced is a torch.nn.MultiheadAttention, not a {type(module).__name__}")
    reason = _find_reason_against(module)
    if reason:
        raise AttentionInputError(f"{type(module).__qualname__} can't be replaced: {reason}")
    made = MultiheadAttention.__new__(MultiheadAttention)
    _share(module, made)
    made.out_proj = _share(module.out_proj, type(module.out_proj).__new__(type(module.out_proj)))
    made.strict_torch = strict_torch
    return made


def replace_in(model: nn.Module, *, strict_torch: bool = False) -> Replacement:
    """Puts ours in the place of each torch.nn.MultiheadAttention below `model`, and says what was done.

    Parameters stay the same objects; a module that is there twice is replaced by one. Encoder and decoder layers of
    torch call ours from then on, and encoders hand it padded batches as they are. Done again, it finds nothing to do.
    A model that is such a layer itself cannot be changed from within: see `from_torch`.
    """
    if not isinstance(model, nn.Module):
        raise AttentionInputError(f"what has layers to replace is a module of torch's, not a {type(model).__name__}")
    if type(model) is nn.MultiheadAttention:
        raise AttentionInputError("the model is the layer itself", hint="from_torch makes a layer that takes its place")
    made: dict[nn.Module, MultiheadAttention] = {}
    replaced, left, without_nesting = [], [], []
    for place, parent in list(model.named_modules(remove_duplicate=False)):
        for name, child in list(parent._modules.items()):  # named_children leaves out second names
            path = f"{place}.{name}" if place else name
            if isinstance(child, MultiheadAttention) and child in made.values():  # the parent has two names itself
                replaced.append(path)
            if not isinstance(child, nn.MultiheadAttention) or isinstance(child, MultiheadAttention):
                continue
            reason = _find_reason_against(child)
            if reason:
                left.append((path, reason))
                continue
            if child not in made:
                made[child] = from_torch(child, strict_torch=strict_torch)
            setattr(parent, name, made[child])
            replaced.append(path)
    for place, encoder in model.named_modules():
        if isinstance(encoder, nn.TransformerEncoder) and encoder.use_nested_tensor and _has_ours(encoder):
            encoder.use_nested_tensor = False
            without_nesting.append(place)
    return Replacement(tuple(replaced), tuple(left), tuple(without_nesting))


def _has_ours(model: nn.Module) -> bool:
    return any(isinstance(below, MultiheadAttention) and not below.strict_torch for below in model.modules())


def _find_reason_against(module: nn.Module) -> str:
    """Why a layer has to stay what it is, or ""."""
    if isinstance(module, MultiheadAttention):
        return "it is ours already"
    if type(module) is not nn.MultiheadAttention:
        return f"{type(module).__module__}.{type(module).__qualname__} may compute something else than its base class"
    return ""


def _share(source: nn.Module, target: Module) -> Module:
    """Gives `target` the parameters and all else of `source`, in containers of its own."""
    for name, value in source.__dict__.items():
        target.__dict__[name] = copy.copy(value) if isinstance(value, (dict, set, list)) else value
    return target
