"""The steps of an attention layer: their names, their order, and the axes of what each of them gives.

    B batch    L query length    S key length    E embedding    H heads    D head size

S counts what the layer itself appends to the keys (a learned row, a row of zeros). Nothing but the standard library is
imported here: reports and maps name steps without NumPy.
"""

from __future__ import annotations

from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["STEPS", "STEP_NAMES", "Step", "axes_of", "before", "format_shape"]


@record
class Step:
    """One step. `axes` has a letter for each axis; "HD" is heads times head size in one."""

    name: str
    axes: tuple[str, ...]
    before: tuple[str, ...]  # the steps that it is computed from
    means: str


STEPS = (
    Step("query_projection", ("B", "L", "HD"), (), "the query times its weights, plus the bias"),
    Step("key_projection", ("B", "S", "HD"), (), "the key times its weights, plus the bias"),
    Step("value_projection", ("B", "S", "HD"), (), "the value times its weights, plus the bias"),
    Step(
        "query_heads", ("B", "H", "L", "D"), ("query_projection",), "the projection cut into heads; normalised, turned"
    ),
    Step("key_heads", ("B", "H", "S", "D"), ("key_projection",), "the same of the keys, with the rows that are added"),
    Step(
        "value_heads",
        ("B", "H", "S", "D"),
        ("value_projection",),
        "the same of the values, as they are",
    ),
    Step("scores", ("B", "H", "L", "S"), ("query_heads", "key_heads"), "query times key, times the scale; capped"),
    Step("masked_scores", ("B", "H", "L", "S"), ("scores",), "the scores, -inf where a key is forbidden"),
    Step("weights", ("B", "H", "L", "S"), ("masked_scores",), "the softmax of each row"),
    Step("context", ("B", "H", "L", "D"), ("weights", "value_heads"), "the values, added up by weight"),
    Step("concatenated", ("B", "L", "HD"), ("context",), "the heads side by side again"),
    Step("output", ("B", "L", "E"), ("concatenated",), "that times the output's weights, plus the bias"),
    Step("averaged_weights", ("B", "L", "S"), ("weights",), "the mean of the weights over the heads"),
)
STEP_NAMES = tuple(step.name for step in STEPS)
_STEP = {step.name: step for step in STEPS}


def axes_of(name: str) -> tuple[str, ...]:
    """The axes of what a step gives."""
    return _STEP[name].axes


def before(name: str) -> tuple[str, ...]:
    """The steps that a step is computed from; none for those that start from the layer's inputs."""
    return _STEP[name].before


def format_shape(axes: Sequence[str], shape: Sequence[int]) -> str:
    """ "(B=2, L=5, E=4)"."""
    if len(axes) != len(shape):
        return f"({', '.join(map(str, shape))})"
    return f"({', '.join(f'{axis}={size}' for axis, size in zip(axes, shape, strict=True))})"
