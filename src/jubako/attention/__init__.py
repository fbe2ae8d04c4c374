"""Attention layers, re-derived and checked; maps; and a layer that can take the place of torch's."""

from __future__ import annotations
