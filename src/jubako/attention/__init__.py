"""Attention layers, re-derived and checked; maps; and a layer that can take the place of torch's.

The public names are loaded on first use: importing this imports neither NumPy nor torch.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.attention.checker import assert_attention_matches as assert_attention_matches
    from jubako.attention.checker import capture as capture
    from jubako.attention.checker import check as check
    from jubako.attention.checker import check_steps as check_steps
    from jubako.attention.checker import check_weights_file as check_weights_file
    from jubako.attention.checking.judge import Call as Call
    from jubako.attention.checking.options import CheckOptions as CheckOptions
    from jubako.attention.checking.precision import precision_of as precision_of
    from jubako.attention.checking.report import Report as Report
    from jubako.attention.description import Masks as Masks
    from jubako.attention.description import Norm as Norm
    from jubako.attention.description import Past as Past
    from jubako.attention.description import Rotary as Rotary
    from jubako.attention.description import Settings as Settings
    from jubako.attention.description import Weights as Weights
    from jubako.attention.description import rotary_of as rotary_of
    from jubako.attention.files.check import FileOptions as FileOptions
    from jubako.attention.files.layers import Told as Told
    from jubako.attention.layer.compiled import use_kernel as use_kernel
    from jubako.attention.layer.inputs import AttentionInputError as AttentionInputError
    from jubako.attention.layer.memory import SizeError as SizeError
    from jubako.attention.layer.module import MultiheadAttention as MultiheadAttention
    from jubako.attention.layer.replacing import Replacement as Replacement
    from jubako.attention.layer.replacing import from_torch as from_torch
    from jubako.attention.layer.replacing import replace_in as replace_in
    from jubako.attention.layer.wanted import Attended as Attended
    from jubako.attention.layer.wanted import Want as Want
    from jubako.attention.maps.maps import Maps as Maps
    from jubako.attention.maps.show import show as show
    from jubako.attention.maps.tracing import trace as trace
    from jubako.attention.reference import Steps as Steps
    from jubako.attention.reference import attend as attend

_NAMES_IN = {
    "jubako.attention.checker": ("assert_attention_matches", "capture", "check", "check_steps", "check_weights_file"),
    "jubako.attention.checking.judge": ("Call",),
    "jubako.attention.checking.precision": ("precision_of",),
    "jubako.attention.checking.options": ("CheckOptions",),
    "jubako.attention.checking.report": ("Report",),
    "jubako.attention.description": ("Masks", "Norm", "Past", "Rotary", "Settings", "Weights", "rotary_of"),
    "jubako.attention.files.check": ("FileOptions",),
    "jubako.attention.files.layers": ("Told",),
    "jubako.attention.layer.compiled": ("use_kernel",),
    "jubako.attention.layer.inputs": ("AttentionInputError",),
    "jubako.attention.layer.memory": ("SizeError",),
    "jubako.attention.layer.module": ("MultiheadAttention",),
    "jubako.attention.layer.replacing": ("Replacement", "from_torch", "replace_in"),
    "jubako.attention.layer.wanted": ("Attended", "Want"),
    "jubako.attention.maps.maps": ("Maps",),
    "jubako.attention.maps.show": ("show",),
    "jubako.attention.maps.tracing": ("trace",),
    "jubako.attention.reference": ("Steps", "attend"),
}
_HOME_OF = {name: home for home, names in _NAMES_IN.items() for name in names}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605  (names come from the table)


def __getattr__(name: str) -> Any:
    try:
        home = _HOME_OF[name]
    except KeyError:
        raise AttributeError(f"module 'jubako.attention' has no attribute {name!r}") from None
    from jubako.attention.libraries import load

    value = getattr(load(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
