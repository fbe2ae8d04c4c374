"""What checking attention costs, and what it can see: the measurements that docs/attention-bounds.md rests on.

    python bench/attention_check.py              all of it (minutes)
    python bench/attention_check.py cost         time and memory of a check
    python bench/attention_check.py bounds       how much of its bound each step uses
    python bench/attention_check.py smallest     the smallest error that each step shows

cost: a layer of 12 heads and 768 features, 512 rows, float32, checked all ways that torch has of calling it, against
one call of it. Processor time, one thread, the least of several rounds that take turns. Goal: under a second.

bounds: layers of torch with everything drawn (sizes, options, masks, scores up to some hundreds), and two fifths as
many with norms of queries and keys and caps of scores, computed by torch step by step. For each type and step the
largest error as a share of its bound, from the step's own inputs and from the beginning: 1 would be an alarm.

smallest: the step as it is, times 1 + x; the least x at which that step is named. For a layer of 8 heads and 256
features, whose scores reach 3 and 30.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.attention.check.drawn import TYPES, draw_layer
from tests.attention.check.normalised import draw_normalised

from jubako.attention import CheckOptions, Report, check, check_steps
from jubako.attention.checking.arithmetic import compute
from jubako.attention.checking.judge import Call, Expected, Observed, expect, judge
from jubako.attention.checking.precision import PRECISIONS
from jubako.attention.checking.rounding import round_to
from jubako.attention.description import Settings, Weights
from jubako.attention.steps import STEP_NAMES

GOAL_S = 1.0
LAYERS = 2000


def cost(rounds: int = 9) -> bool:
    """Time and memory of one check."""
    torch.manual_seed(0)
    module = torch.nn.MultiheadAttention(768, 12, batch_first=True).eval()
    x = torch.randn(1, 512, 768)

    def call() -> None:
        with torch.no_grad():
            module(x, x, x)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call()
    best = {"check": float("inf"), "call": float("inf")}
    for _ in range(rounds):
        for name, work in (("check", lambda: check(module, x)), ("call", call)):
            best[name] = min(best[name], processor_time(work))
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    is_reached = best["check"] < GOAL_S
    print(
        f"check of 12 heads, L=512, E=768: {best['check']:.2f} s of a processor, "
        f"{best['check'] / best['call']:.0f} times one call of the layer; {megabytes:.0f} MB more at most; "
        f"goal under {GOAL_S:.0f} s: {'reached' if is_reached else 'NOT REACHED'}"
    )
    return is_reached


def bounds(layers: int) -> bool:
    """The largest share of its bound that any step uses, in layers with everything drawn."""

    def draw(seed: int) -> Report:
        module, inputs, arguments = draw_layer(seed)
        return check(module, *inputs, options=CheckOptions(seed=seed), **arguments)

    def draw_with_norms(seed: int) -> Report:
        call, values = draw_normalised(seed)
        return check_steps(values, call)

    are_right = measure_shares("drawn layers of torch", range(layers), draw)
    few = range(layers * 2 // 5)
    return measure_shares("drawn layers with norms of queries and keys", few, draw_with_norms) and are_right


def measure_shares(what: str, seeds: range, draw: Callable[[int], Report]) -> bool:
    """Prints a table of one kind of layers. True if there was no alarm."""
    used: dict[tuple[str, str], list[float]] = {}
    alarms = 0
    for seed in seeds:
        report = draw(seed)
        alarms += not report
        for run in report.layers[0].runs:
            for verdict in run.steps:
                key = (str(report.layers[0].facts["dtype"]), verdict.step)
                for place, comparison in enumerate((verdict.isolated, verdict.cumulative)):
                    if comparison is not None and comparison.place:
                        shares = used.setdefault(key, [0.0, 0.0])
                        shares[place] = max(shares[place], comparison.used)
    print(f"\nlargest error, as a share of its bound, in {len(seeds)} {what} ({alarms} alarms)")
    print_table(lambda name, step: " / ".join(f"{share:.2f}" for share in used.get((name, step), (0.0, 0.0))))
    return alarms == 0


def smallest() -> bool:
    """The least relative error of each step that is seen there."""
    for size, words in ((1.0, "3"), (3.3, "30")):
        found: dict[tuple[str, str], float] = {}
        for name in TYPES:
            call = make_call(name, size)
            for step in STEP_NAMES:
                found[name, step] = bisect(partial(is_seen, step, compute(call), expect(call)))
        print(f"\nsmallest relative error of a whole step that is named there, scores up to about {words}")
        print_table(lambda name, step, found=found: f"{found[name, step]:.1g}")
    return True


def make_call(name: str, size: float) -> Call:
    """A layer of 8 heads and 256 features, with weights that make scores so large."""
    random = np.random.default_rng(7)

    def draw(*shape: int) -> np.ndarray:
        return round_to(random.normal(size=shape) * size / 256**0.5, name)

    weights = Weights(*(draw(256, 256) for _ in range(4)))
    x = round_to(random.normal(size=(1, 64, 256)), name)
    return Call(weights, Settings(8), x, x, x, PRECISIONS[name])


def is_seen(step: str, right: dict[str, np.ndarray], expected: Expected, x: float) -> bool:
    """True if a step that is off by so much is named."""
    changed = {**right, step: right[step].astype(np.float64) * (1 + x)}
    departure = judge(Observed("changed", changed), expected).first_departure
    return departure is not None and departure.step == step


def bisect(is_enough: Callable[[float], bool]) -> float:
    """The least number, to a tenth of itself, from which on it is enough."""
    low, high = 1e-17, 1.0
    if not is_enough(high):
        return float("inf")
    while high / low > 1.1:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def print_table(cell: Callable[[str, str], str]) -> None:
    """A row for each step, a column for each type."""
    print(f"{'':18}" + "".join(f"{name:>14}" for name in TYPES))
    for step in STEP_NAMES:
        print(f"{step:18}" + "".join(f"{cell(name, step):>14}" for name in TYPES))


def processor_time(work: Callable[[], object]) -> float:
    """Seconds of the processor that it takes."""
    before = time.process_time()
    work()
    return time.process_time() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", choices=["cost", "bounds", "smallest", []], default=["cost", "bounds", "smallest"]
    )
    parser.add_argument("--layers", type=int, default=LAYERS, help="how many layers are drawn for bounds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = {"cost": cost, "bounds": lambda: bounds(options.layers), "smallest": smallest}
    reached = [work[part]() for part in options.parts]
    if not all(reached):
        sys.exit("a goal is not reached")


if __name__ == "__main__":
    main()
