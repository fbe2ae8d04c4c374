"""One thread for torch, so that results are the same each time and tests beside this one have a processor too."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
