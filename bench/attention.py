"""What attention costs: ours against both paths of torch's layer, and against torch's fused attention without weights.

One process, one thread. The sides take turns, round by round in another order, and the least processor time of each
counts, so others on the machine disturb little; of the small shape there are five times as many rounds. "fast" is
torch's layer as it evaluates, "slow" is what it does in training, and with an odd number of heads, without bias, under
autocast and in cross attention. Results are compared before they are timed. Peak memory is measured in a process for
each side: how far the resident set rises above what it was.

    python bench/attention.py              all goals, a few minutes
    python bench/attention.py --rounds 5   quicker and less sure

Prints a line for each goal: what is compared, the ratio, the goal, and whether it is met.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jubako.attention import MultiheadAttention, use_kernel

Call = Callable[[], object]
SHAPES = {"small": (1, 512, 512, 8), "long": (1, 2048, 512, 8), "wide": (4, 1024, 768, 12)}


class Goal(NamedTuple):
    """One line of the table."""

    ours: str
    peers: tuple[str, ...]  # the quickest of them
    most: float


class Sides:
    """The calls that are compared at one shape and in one dtype."""

    def __init__(self, shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
        batch, self.length, width, self.heads = shape
        torch.manual_seed(0)
        self.ours = MultiheadAttention(width, self.heads, batch_first=True, dtype=dtype).eval()
        self.torchs = nn.MultiheadAttention(width, self.heads, batch_first=True, dtype=dtype).eval()
        self.torchs.load_state_dict(self.ours.state_dict())
        self.x = torch.randn(batch, self.length, width, dtype=dtype)

    def fast(self) -> tuple[Tensor, Tensor | None]:
        torch.backends.mha.set_fastpath_enabled(True)
        return self.torchs(self.x, self.x, self.x)  # type: ignore[no-any-return]

    def slow(self) -> tuple[Tensor, Tensor | None]:
        torch.backends.mha.set_fastpath_enabled(False)
        return self.torchs(self.x, self.x, self.x)  # type: ignore[no-any-return]

    def run(self) -> tuple[Tensor, Tensor | None]:
        return self.ours(self.x, self.x, self.x)  # type: ignore[no-any-return]

    def kernel(self) -> tuple[Tensor, Tensor | None]:
        """`run` with the compiled kernel."""
        before = use_kernel("compiled")
        try:
            return self.run()
        finally:
            use_kernel(before)

    def causal(self) -> tuple[Tensor, Tensor | None]:
        return self.ours(self.x, self.x, self.x, is_causal=True)  # type: ignore[no-any-return]

    def without_weights(self) -> tuple[Tensor, Tensor | None]:
        return self.ours(self.x, self.x, self.x, need_weights=False)  # type: ignore[no-any-return]

    def fused(self) -> Tensor:
        """Projections and scaled_dot_product_attention, written down by hand."""
        layer = self.torchs
        packed = F.linear(self.x, layer.in_proj_weight, layer.in_proj_bias)
        q, k, v = packed.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        context = F.scaled_dot_product_attention(q, k, v)
        return F.linear(context.transpose(1, 2).flatten(2), layer.out_proj.weight, layer.out_proj.bias)

    def compare(self) -> None:
        """Fails if one side computes something else."""
        near = 1e-5 if self.x.dtype == torch.float32 else 2e-2
        output, weights = self.run()
        for theirs, their_weights in (self.fast(), self.slow(), self.kernel()):
            torch.testing.assert_close(output, theirs, rtol=0.0, atol=near)
            torch.testing.assert_close(weights, their_weights, rtol=0.0, atol=near)
        torch.testing.assert_close(self.without_weights()[0], self.fused(), rtol=0.0, atol=near)
        row = self.length // 3
        assert self.causal()[1][:, row, row + 1 :].count_nonzero() == 0


def time_calls(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """The least processor time of each call in seconds.

    They take turns, each round in another order: what a call finds in the caches is what the one before it left there,
    so in a fixed order each would be measured after the same other one.
    """
    order = random.Random(0)  # the same orders each time
    taken = dict.fromkeys(calls, math.inf)
    names = list(calls)
    for _ in range(rounds):
        order.shuffle(names)
        for name in names:
            began = time.process_time()
            calls[name]()
            taken[name] = min(taken[name], time.process_time() - began)
    return taken


def measure_peak(side: str) -> int:
    """How far the resident set of a new process rises while it makes one call at the long shape, in bytes."""
    # Blocks above 64 KiB are then pages of their own, which are given back when they are freed, mallopt(3).
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(64 << 10)}
    command = [sys.executable, __file__, "--peak", side]
    return int(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)


def print_peak(side: str) -> None:
    """What `measure_peak` asks of the new process. A short call comes first: libraries make themselves comfortable."""
    call = getattr(Sides(SHAPES["long"], torch.float32), side)
    with torch.inference_mode():
        getattr(Sides(SHAPES["small"], torch.float32), side)()
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew, proc(5)
        before = _read_status("VmRSS")
        call()
        print(_read_status("VmHWM") - before)


def _read_status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


def main() -> None:
    parser = argparse.ArgumentParser(description="What attention costs, as ratios.")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--peak", choices=("run", "fast", "slow"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        print_peak(options.peak)
        return
    for shape, dtype, goals in PLAN:
        compare_at(shape, dtype, goals, options.rounds)


def compare_at(shape: str, dtype: torch.dtype, goals: list[Goal], rounds: int) -> None:
    """Prints what belongs to one shape."""
    sides = Sides(SHAPES[shape], dtype)  # made without inference mode, under which torch projects some inputs slowly
    with torch.inference_mode():
        sides.compare()
        names = dict.fromkeys(name for goal in goals for name in (goal.ours, *goal.peers))
        many = rounds * (5 if shape == "small" else 1)
        taken = time_calls({name: getattr(sides, name) for name in names}, many)
        print(f"{describe(shape, dtype)}: " + ", ".join(f"{name} {t * 1e3:.1f} ms" for name, t in taken.items()))
        for goal in goals:
            say(goal, taken[goal.ours] / min(taken[name] for name in goal.peers))
        if (shape, dtype) == ("long", torch.float32):
            peaks = {name: measure_peak(name) for name in ("run", "fast", "slow")}
            print("peak memory: " + ", ".join(f"{name} {peak / (1 << 20):.0f} MiB" for name, peak in peaks.items()))
            say(Goal("run", ("fast",), 0.3), peaks["run"] / peaks["fast"])


def describe(shape: str, dtype: torch.dtype) -> str:
    batch, length, width, heads = SHAPES[shape]
    return f"B={batch} L={length} E={width} H={heads} {str(dtype).removeprefix('torch.')}"


def say(goal: Goal, ratio: float) -> None:
    """Prints a line of the table."""
    compared = f"{goal.ours} / {' or '.join(goal.peers)}"
    print(
        f"    {compared:<28} {ratio:5.2f}   at most {goal.most:.2f}   {'met' if ratio <= goal.most else 'MISSED'}",
        flush=True,
    )


def with_weights(slow: float, fast: float) -> list[Goal]:
    return [Goal("run", ("slow",), slow), Goal("run", ("fast",), fast)]


def with_kernel(slow: float, fast: float) -> list[Goal]:
    return [Goal("kernel", ("slow",), slow), Goal("kernel", ("fast",), fast)]


ALONE = Goal("without_weights", ("fused",), 1.05)
CAUSAL = Goal("causal", ("run",), 0.7)
LOW = [Goal("run", ("fast", "slow"), 1.05)]
PLAN = [
    ("small", torch.float32, [Goal("run", ("fast",), 1.1), ALONE]),
    (
        "long",
        torch.float32,
        [*with_weights(0.65, 0.85), *with_kernel(0.45, 0.60), CAUSAL, ALONE],
    ),
    ("wide", torch.float32, [*with_weights(0.70, 0.90), ALONE]),
    ("small", torch.bfloat16, LOW),
    ("long", torch.bfloat16, LOW),
    ("wide", torch.bfloat16, LOW),
]

if __name__ == "__main__":
    main()
