"""How much memory a pass will take, and a refusal of one that would not fit, before anything is allocated."""

from __future__ import annotations

import torch

from jubako.attention.free_memory import SizeError, find_free_bytes
from jubako.attention.layer.inputs import AttentionInputError
from jubako.attention.layer.steps import STEP_BYTES, Sizes
from jubako.attention.layer.wanted import Want

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["LayerSizeError", "estimate_bytes", "find_available_bytes", "require_memory", "require_room_for_weights"]

SMALL_BYTES = 256 << 20  # below this nothing is looked up, which takes a tenth of a millisecond


class LayerSizeError(SizeError, AttentionInputError):
    """The same of a pass of the layer, or of its weights, for which torch's layer raises RuntimeError."""


def estimate_bytes(sizes: Sizes, want: Want, item_bytes: int, *, held: str, mask_items: int = 0) -> dict[str, int]:
    """What a pass allocates, by name, in bytes.

    `held` says of what it holds the weights at a time, "all", a "step" or "none"; `mask_items` how many numbers the one
    mask has that it makes of all.
    """
    sum_bytes = max(4, item_bytes)
    rows = sizes.batch * sizes.heads * sizes.queries
    keys = sizes.batch * sizes.heads * sizes.keys
    weights = rows * sizes.keys * item_bytes
    parts = {
        "projections and context": 2 * (2 * rows + 2 * keys) * sizes.head_dim * item_bytes,
        "scores": {"all": 2 * weights, "step": min(weights, STEP_BYTES), "none": 0}[held],
        "mask": mask_items * item_bytes,
        "averaged map": sizes.batch * sizes.queries * sizes.keys * item_bytes if want.averaged else 0,
        "maps of all heads": weights if want.per_head and held != "all" else 0,
        "column sums": keys * sum_bytes if want.column_sums else 0,
        "entropies": rows * sum_bytes if want.row_entropy else 0,
        "top keys": rows * min(want.top_keys, sizes.keys) * (8 + item_bytes),
    }
    return {name: count for name, count in parts.items() if count}


def require_memory(parts: dict[str, int], sizes: Sizes, device: torch.device) -> None:
    """Raises LayerSizeError if `parts` together are more than the device has left."""
    needed = sum(parts.values())
    if needed <= SMALL_BYTES:
        return
    available = find_available_bytes(device)
    if available is not None and needed > available:
        largest = max(parts, key=lambda name: parts[name])
        raise LayerSizeError(
            f"B={sizes.batch}, H={sizes.heads}, L={sizes.queries}, S={sizes.keys} would take {_say(needed)}, of it "
            f"{_say(parts[largest])} for the {largest}, and {_say(available)} are available on {device}",
            needed_bytes=needed,
            available_bytes=available,
            hint="ask for column sums or top keys instead of maps, or hand in fewer queries at a time",
        )


def require_room_for_weights(embed: int, key: int | None, value: int | None, device: Any, dtype: Any) -> None:
    """Raises LayerSizeError if the weights of a layer do not fit, whose query, key and value are so wide.

    The rest is as for torch's constructor, which is to refuse what makes no sense.
    """
    widths = [embed if width is None else width for width in (embed, key, value)]
    is_real = not torch._C._len_torch_dispatch_stack()  # or it may be that nothing is allocated
    if not is_real or not all(isinstance(width, int) for width in widths) or not isinstance(dtype, torch.dtype | None):
        return
    needed = embed * (embed + sum(widths)) * (dtype or torch.get_default_dtype()).itemsize
    if needed <= SMALL_BYTES:
        return
    place = torch.get_default_device() if device is None else torch.device(device)
    available = find_available_bytes(place)
    if available is not None and needed > available:
        raise LayerSizeError(
            f"the weights of a layer of E={embed} features would take {_say(needed)}, and {_say(available)} are "
            f"available on {place}",
            needed_bytes=needed,
            available_bytes=available,
            hint="embed_dim is how many features all heads have together",
        )


def find_available_bytes(device: torch.device) -> int | None:
    """The memory that can still be taken; None where nobody says."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    return find_free_bytes()


def _say(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"
