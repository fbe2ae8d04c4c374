"""Looking into torch's modules while they compute. Torch is imported below here only, and by the layer itself."""

from __future__ import annotations
