"""Calls of modules that have begun and not ended, by thread, each with the mode that sees its operations.

Torch calls no hook where a call ends by an interrupt. So each call is kept with the frame that makes it: once that is
no longer among the frames of the thread, the call has ended, and its mode is taken off. Modes need not end in the order
in which they began: two watches of one model have their hooks called in one order, before the call and after it.
"""

from __future__ import annotations

import sys
from threading import Lock, get_ident

import torch
from torch.utils import _python_dispatch
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode

from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

__all__ = ["Ongoing"]

_CALLING = torch.nn.Module._call_impl.__code__  # what calls a module, and its hooks


@record
class _Call:
    """A call. `extra` is what whoever watches it keeps with it."""

    module: torch.nn.Module
    mode: TorchDispatchMode | None
    extra: Any
    frame: FrameType | None


class Ongoing:
    """The calls of each thread, the outermost first."""

    def __init__(self) -> None:
        self._calls: dict[int, list[_Call]] = {}

    def find_modules(self) -> list[torch.nn.Module]:
        """The modules that this thread is calling, the outermost first.

        Nothing is ended here: a mode may ask while it sees an operation, when torch has taken it off for a moment.
        """
        calls = self._calls.get(get_ident(), [])
        alive = _find_frames() if calls else set()
        return [call.module for call in calls if call.frame is None or call.frame in alive]

    def begin(self, module: torch.nn.Module, mode: TorchDispatchMode | None = None, extra: Any = None) -> None:
        """To be called by a hook before a call; the mode is on from here, and `extra` is given back at the end."""
        self._drop_ended()
        self._calls.setdefault(get_ident(), []).append(_Call(module, mode, extra, _find_frame()))
        if mode is not None:
            _put_on(mode)

    def end(self, module: torch.nn.Module) -> _Call | None:
        """To be called by a hook after a call: that, whose mode is off now; None if nobody saw it begin."""
        self._drop_ended()
        calls = self._calls.get(get_ident(), [])
        if not calls or calls[-1].module is not module:
            return None
        return _drop(calls)

    def close(self) -> None:
        """Ends what this thread has begun."""
        calls = self._calls.pop(get_ident(), [])
        while calls:
            _drop(calls)

    def _drop_ended(self) -> None:
        calls = self._calls.get(get_ident(), [])
        alive = _find_frames() if calls else set()
        while calls and calls[-1].frame is not None and calls[-1].frame not in alive:
            _drop(calls)


def _drop(calls: list[_Call]) -> _Call:
    call = calls[-1]
    if call.mode is not None:
        _take_off(call.mode)
    return calls.pop()


class _Count:
    """How many modes are on that were put on here, in all threads."""

    lock = Lock()
    modes = 0


def _put_on(mode: TorchDispatchMode) -> None:
    with _Count.lock:
        _Count.modes += 1
        mode.__enter__()  # type: ignore[no-untyped-call]


def _take_off(mode: TorchDispatchMode) -> None:
    """Ends a mode, wherever in the stack of modes it is; those above it stay."""
    above = []
    while (top := _get_current_dispatch_mode()) is not None and top is not mode:
        TorchDispatchMode.__exit__(top, None, None, None)  # type: ignore[no-untyped-call]
        above.append(top)
    if top is mode:
        mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
    for each in reversed(above):
        TorchDispatchMode.__enter__(each)  # type: ignore[no-untyped-call]
    with _Count.lock:
        _Count.modes -= 1
        if not _Count.modes and _get_current_dispatch_mode() is None:
            # Torch 2.13 keeps for the process, not for a thread, that there is a mode, and puts back what was when one
            # began: if another thread's ended meanwhile, that stays true, and nothing is compiled any more.
            _python_dispatch._is_in_torch_dispatch_mode = False
            _python_dispatch._is_in_non_infra_torch_dispatch_mode = False


def _find_frame() -> FrameType | None:
    """The frame of torch's that is calling a module now; None if what calls it was compiled."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code is not _CALLING:
        frame = frame.f_back
    return frame


def _find_frames() -> set[FrameType]:
    found = set()
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        found.add(frame)
        frame = frame.f_back
    return found
