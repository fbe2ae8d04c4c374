"""What waiting for a command takes from asyncio, whose import takes 40 ms: for who waits so."""

from __future__ import annotations

from asyncio import get_running_loop

__all__ = ["get_running_loop"]
