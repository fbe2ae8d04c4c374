"""Maps of a real model's run: the one module of `maps` that imports torch.

A model of Hugging Face's is asked for its weights (`output_attentions`, with the eager implementation, as no other has
them). In any other model the calls of modules like `torch.nn.MultiheadAttention` are watched: each is made to give its
weights head by head, and what its caller gets is as it asked for. Torch's fast path, which calls no module, is off.
The model is as it was afterwards, also if the run fails.
"""

from __future__ import annotations

import inspect
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase

import numpy as np
import torch

from jubako.attention.maps.drawable import describe_shape
from jubako.attention.maps.maps import Maps
from jubako.attention.observing.modes import evaluating, fast_path
from jubako.errors import InputError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

__all__ = ["trace"]

_KINDS = ("attentions", "encoder_attentions", "decoder_attentions", "cross_attentions")
_NAMED = 6  # of what was found, in a sentence


@record
class _Found:
    """One call: of what, its weights (heads, L, S), and which cells its masks forbid (heads or 1, L, S)."""

    name: str
    weights: Any
    masked: Any


def trace(
    model: Any,
    *inputs: Any,
    tokenizer: Any = None,
    tokens: Sequence[str] = (),
    only: str = "*",
    sample: int = 0,
    **options: Any,
) -> Maps:
    """The maps of one run of `model(*inputs, **options)`, in evaluation mode and without gradients.

    tokenizer   makes the model's inputs of a text, the one input then, and names the tokens.
    tokens      the tokens instead; of the queries, and of the keys if there are as many.
    only        a pattern for what is kept: names of modules ("decoder.*.self_attn"), or of a Hugging Face model's
                outputs ("encoder_attentions").
    sample      which of a batch.

    One input alone of a layer like `torch.nn.MultiheadAttention` is its query, key and value.

    Keys that the padding mask of a Hugging Face model forbids are masked, and so is what comes later if no query has
    any weight there. InputError: nothing was found, or maps of several shapes; the sentence names what there is.
    """
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"what is traced is a module of torch's, not a {type(model).__name__}")
    given = inputs
    if tokenizer is None and any(isinstance(each, str) for each in inputs):
        raise InputError(
            "a text has to be made into tokens", hint="give the model's tokenizer: trace(..., tokenizer=...)"
        )
    if tokenizer is not None:
        given, options = (), {**_tokenize(tokenizer, inputs), **options}
    elif len(inputs) == 1 and hasattr(inputs[0], "keys"):  # what a tokenizer made
        given, options = (), {**inputs[0], **options}
    with evaluating(model), torch.no_grad():
        if len(given) == 1 and not {"key", "value"} & options.keys() and _gives_weights(model):
            given = given * 3
        read = _ask if hasattr(model, "set_attn_implementation") else _watch
        found = read(model, given, options, sample)
    kept = [each for each in found if fnmatchcase(each.name, only)]
    weights = _stack(kept, found, only)  # (layers, heads, L, S)
    if tokenizer is not None and not len(tokens):
        ids = options["input_ids"][sample]
        tokens = tokenizer.convert_ids_to_tokens(ids.tolist()) if len(ids) == weights.shape[2] else ()
    masks = [each.masked for each in kept]
    heads = max(len(mask) for mask in masks)
    masked = np.stack([np.broadcast_to(mask, (heads, *mask.shape[1:])) for mask in masks])  # (layers, heads or 1, L, S)
    names = [each.name for each in kept]
    return Maps(
        weights,
        tokens,
        layers=() if read is _ask and len(set(names)) == 1 else names,
        title=type(model).__name__,
        masked=masked if masked.any() else None,
    )


def _tokenize(tokenizer: Any, inputs: tuple[Any, ...]) -> Mapping[str, Any]:
    if len(inputs) != 1 or not isinstance(inputs[0], str):
        raise InputError("with a tokenizer the model's input is one text", hint="or give it the tokens as 'tokens'")
    made: Mapping[str, Any] = tokenizer(inputs[0], return_tensors="pt")
    return made


def _ask(model: Any, inputs: tuple[Any, ...], options: Mapping[str, Any], sample: int) -> list[_Found]:
    """What a Hugging Face model says of its own weights."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        output = model(*inputs, **{**options, "output_attentions": True, "return_dict": True})
    finally:
        model.set_attn_implementation(before)
    padding = options.get("attention_mask")
    found = []
    for kind in _KINDS:
        for batch in getattr(output, kind, None) or ():
            weights = _to_numpy(_of_sample(batch, sample))  # (heads, L, S)
            found.append(_Found(kind, weights, _find_unused(weights, None if padding is None else padding[sample])))
    return found


def _watch(model: Any, inputs: tuple[Any, ...], options: Mapping[str, Any], sample: int) -> list[_Found]:
    """What the attention modules of a model give while it runs, in the order of their calls."""
    found: list[_Found] = []
    with fast_path(enabled=False), ExitStack() as stack:
        for name, module in model.named_modules():
            if _gives_weights(module):
                stack.enter_context(_watching(module, name or type(module).__name__, sample, found))
        model(*inputs, **options)
    return found


def _gives_weights(module: Any) -> bool:
    parameters = inspect.signature(module.forward).parameters
    return "need_weights" in parameters and "average_attn_weights" in parameters


@contextmanager
def _watching(module: Any, name: str, sample: int, found: list[_Found]) -> Iterator[None]:
    """Inside, each call of the module adds to `found`."""
    calls: list[Mapping[str, Any]] = []  # under way, as they were asked for
    signature = inspect.signature(module.forward)

    def before(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        calls.append(dict(call.arguments))
        call.arguments.update(need_weights=True, average_attn_weights=False)
        return call.args, call.kwargs

    def after(_module: Any, _args: Any, output: tuple[Any, ...]) -> tuple[Any, ...]:
        asked = calls.pop()
        weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
        if not isinstance(weights, torch.Tensor) or weights.ndim not in (3, 4):
            raise InputError(f"{name} was asked for the weights of each head, and gave none")
        # (B, heads, L, S), or unbatched (heads, L, S)
        is_batch = weights.ndim == 4
        masked = _find_forbidden(asked, weights, sample if is_batch else None)
        found.append(_Found(name, _to_numpy(_of_sample(weights, sample) if is_batch else weights), masked))
        given = weights.mean(dim=-3) if asked["average_attn_weights"] else weights
        return (output[0], given if asked["need_weights"] else None, *output[2:])

    first = module.register_forward_pre_hook(before, with_kwargs=True, prepend=True)
    last = module.register_forward_hook(after)
    try:
        yield
    finally:
        first.remove()
        last.remove()


def _stack(kept: Sequence[_Found], found: Sequence[_Found], only: str) -> Any:
    if not kept:
        names = ", ".join(dict.fromkeys(each.name for each in found))
        raise InputError(
            f"the run gave no weights of attention{f' called {only!r}' if only != '*' else ''}"
            f"{f'; there is {names}' if names else ''}",
            hint="" if names else "modules whose forward() takes need_weights and average_attn_weights give them",
        )
    shapes: dict[tuple[int, ...], str] = {}
    for each in kept:
        shapes.setdefault(each.weights.shape, each.name)
    if len(shapes) > 1:
        there = [f"{name} has {describe_shape((1, *shape))[10:]}" for shape, name in list(shapes.items())[:_NAMED]]
        raise InputError(
            f"the maps are not of one shape: {'; '.join(there)}",
            hint="'only' chooses some by a pattern of their names",
        )
    return np.stack([each.weights for each in kept])


def _to_numpy(weights: Any) -> Any:
    """The numbers, half precision as float32, which has them all."""
    wide = torch.float64 if weights.dtype == torch.float64 else torch.float32
    return weights.to("cpu", wide, copy=True).numpy()


def _of_sample(batch: Any, sample: int) -> Any:
    if not 0 <= sample < len(batch):
        raise InputError(f"there is no sample {sample}: the batch has {len(batch)}")
    return batch[sample]


def _find_forbidden(call: Mapping[str, Any], weights: Any, sample: int | None) -> Any:
    """What the masks of a call forbid (heads or 1, L, S); bool masks are True there, others minus infinity."""
    heads, rows, columns = weights.shape[-3:]
    forbidden = np.zeros((1, rows, columns), bool)
    mask, padding = (_to_forbidden(call.get(name)) for name in ("attn_mask", "key_padding_mask"))
    if mask is not None:
        if mask.ndim == 3:  # (B heads, L, S)
            mask = mask[(sample or 0) * heads :][:heads]
        forbidden = _widen(mask.reshape(-1, *mask.shape[-2:]), columns) | forbidden
    if padding is not None:
        padding = padding if padding.ndim == 1 else padding[sample or 0]
        forbidden = _widen(padding.reshape(1, 1, -1), columns) | forbidden
    return forbidden


def _to_forbidden(mask: Any) -> Any:
    if mask is None:
        return None
    return (mask if mask.dtype == torch.bool else mask == -torch.inf).cpu().numpy()


def _widen(mask: Any, columns: int) -> Any:
    """The mask with columns for keys that the module adds at the end (bias_k, zeros), which none forbids."""
    return np.pad(mask, ((0, 0), (0, 0), (0, columns - mask.shape[-1])))


def _find_unused(weights: Any, padding: Any) -> Any:
    """Padded keys, and all that comes later if no query has any weight there. (1, L, S)"""
    rows, columns = weights.shape[1:]
    masked = np.zeros((1, rows, columns), bool)
    if padding is not None and padding.shape == (columns,):
        masked |= padding.cpu().numpy() == 0
    later = np.triu(np.ones((rows, columns), bool), 1 + columns - rows)
    if later.any() and not weights[:, later].any():
        masked |= later
    return masked
