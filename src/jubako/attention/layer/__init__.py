"""A multi-head attention layer that can take the place of torch's. The modules import torch, the package does not."""

from __future__ import annotations
