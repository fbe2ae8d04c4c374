"""Files of weights and of activations: read without any library but NumPy, and the attention layers found in them."""

from __future__ import annotations
