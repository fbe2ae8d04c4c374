"""Checks a file of weights. It holds no results, so what is checked is said in the report:

that the layers are whole (every part there, shapes that fit, all numbers finite), and that each of them, computed in
the type of the file with plain arithmetic, agrees with double precision: so much the type can do for these weights and
inputs. What a program made of the weights is checked where its activations are given, too; and with another file, how
far a copy of the weights leads away from the first.
"""

from __future__ import annotations

import numpy as np

from jubako.attention.checking.arithmetic import compute
from jubako.attention.checking.judge import Observed, expect
from jubako.attention.checking.layers import report_layer
from jubako.attention.checking.options import CheckOptions
from jubako.attention.checking.precision import precision_of
from jubako.attention.checking.report import Report
from jubako.attention.checking.rounding import round_to
from jubako.attention.checking.verdicts import LayerReport
from jubako.attention.description import Masks, Weights, find_bad_numbers
from jubako.attention.files.against import compare_with
from jubako.attention.files.given import read_arrays
from jubako.attention.files.layers import FileLayer, Told, find_file_layers
from jubako.attention.files.shards import path_of_weights
from jubako.attention.inputs import require_memory
from jubako.attention.libraries import load
from jubako.attention.steps import STEP_NAMES
from jubako.errors import InputError
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jubako.attention.checking.judge import Call, Expected
    from jubako.attention.checking.precision import Precision
    from jubako.attention.description import Array

__all__ = ["FileOptions", "check_file"]

_INPUTS = ("query", "key", "value", "attn_mask", "key_padding_mask")
_NAMED = 8  # of what is not known, in a sentence
_NOTE = (
    "a file of weights holds no results: checked is that its layers are whole, and that computed in their own type "
    "they agree with double precision"
)
_NO_CONFIG = (
    "there is no config.json: that positions turn with base 10,000, where they do, and that there are neither windows, "
    "nor caps, nor other scales than 1/sqrt(D), is assumed"
)


@record
class FileOptions:
    """What goes with a file of weights: paths of other files, "" for none."""

    told: Told
    inputs: str = ""  # query, key, value, and masks; else they are random
    outputs: str = ""  # what a program gave for these inputs, by the names of steps
    against: str = ""  # another file of the same layers
    uses_torch: bool = False  # have torch's own layer compute it, too
    dtype: str = ""  # the type that outputs were computed in; "": that of the weights


def check_file(path: str, how: FileOptions, options: CheckOptions) -> Report:
    """The report of all layers in a file that are asked for. InputError for files that cannot be read or do not fit."""
    every = find_file_layers(path, how.told)
    layers = [layer for layer in every if options.wants(layer.name)]
    if not layers:
        raise InputError(f"no layer of {path} has {options.layer!r} in its name")
    others = {layer.name: layer for layer in find_file_layers(how.against, how.told)} if how.against else {}
    given = _read_inputs(how.inputs) if how.inputs else None
    outputs = read_arrays(how.outputs) if how.outputs else {}
    if outputs and given is None:
        raise InputError("outputs are compared with what follows from the inputs they came from: --inputs FILE")
    notes = [] if outputs else [_NOTE]
    if given is None:
        notes.append(f"the inputs are random, drawn with seed {options.seed}")
    if not how.told.family and not layers[0].config.is_there:
        notes.append(_NO_CONFIG)
    if how.dtype:
        precision_of(how.dtype)
        notes.append(f"weights and inputs were rounded to {how.dtype}, in which they are computed")
    elif given is not None and any(_is_coarser(layer, given) for layer in layers):
        notes.append("the inputs were rounded to the type of the weights; --dtype names another to compute in")
    known = [layer for layer in layers if not layer.unknown]
    if outputs:
        _require_names(outputs, every, known)
    unchecked = [f"{layer.name}: {layer.unknown}" for layer in layers if layer.unknown]
    reports = [_report(layer, others, given, outputs, how, options, is_only=len(known) == 1) for layer in known]
    tolerance = "" if options.tolerance is None else options.tolerance.describe()
    return Report(path_of_weights(path), reports, notes, tolerance, unchecked)


def _report(
    layer: FileLayer,
    others: Mapping[str, FileLayer],
    given: Mapping[str, Array] | None,
    outputs: Mapping[str, Array],
    how: FileOptions,
    options: CheckOptions,
    *,
    is_only: bool,
) -> LayerReport:
    """One layer, which is read here; what is wrong with it, if nothing can be computed with it."""
    layer = layer.read(options.memory_bytes)
    if how.dtype:
        layer = _in_precision(layer, precision_of(how.dtype))
    kind = f"{layer.family.name}, from the file"
    broken = layer.broken or ("" if layer.weights is None else find_bad_numbers(layer.weights))
    if broken:
        return LayerReport(layer.name, kind, {}, broken=broken)
    try:
        call = _call(layer, given, options)
        expected = expect(call)
    except InputError as error:
        if given is not None:
            raise
        return LayerReport(layer.name, kind, {}, broken=error.message)
    runs = [Observed(f"computed by NumPy in {call.precision.name}", compute(call))]
    runs += _outputs_of(layer.name, outputs, expected, is_only=is_only)
    if how.uses_torch:
        runs += load("jubako.attention.observing.from_file").run_by_torch(call, expected, options.seed)
    report = report_layer(layer.name, kind, call, expected, runs, options.tolerance)
    if not how.against:
        return report
    other = others.get(layer.name)
    other = None if other is None else other.read(options.memory_bytes)
    compared = compare_with(other, layer, call, how.against, options.tolerance)
    return replace(report, runs=[*report.runs, compared])


def _call(layer: FileLayer, given: Mapping[str, Array] | None, options: CheckOptions) -> Call:
    """The layer with inputs that were given, or with random ones as they come out of a norm."""
    assert layer.weights is not None and layer.settings is not None and layer.precision is not None
    if given is None:
        sizes = (options.batch, options.length, options.length)
        require_memory(layer.settings, sizes, layer.weights.query.shape[0], options.memory_bytes)
        random = np.random.default_rng(options.seed)
        drawn: dict[int, Array] = {}  # by the number of features: what is equally wide is the same
        for which in ("query", "key", "value"):
            features = getattr(layer.weights, which).shape[1]
            if features not in drawn:
                numbers = random.normal(size=(options.batch, options.length, features))
                drawn[features] = round_to(numbers, layer.precision.name)
        widths = (layer.weights.query.shape[1], layer.weights.key.shape[1], layer.weights.value.shape[1])
        inputs = (drawn[widths[0]], drawn[widths[1]], drawn[widths[2]])
        return layer.call(inputs, memory_bytes=options.memory_bytes)
    query = given["query"]
    key = given.get("key", query)
    precision = layer.precision.name
    inputs = (_rounded(query, precision), _rounded(key, precision), _rounded(given.get("value", key), precision))
    masks = Masks(given.get("attn_mask"), given.get("key_padding_mask"))
    return layer.call(inputs, masks, options.memory_bytes)


def _read_inputs(path: str) -> dict[str, Array]:
    """The arrays of inputs by name; an array without a name, and hidden_states, are the query."""
    found = read_arrays(path)
    named = {"query" if name in ("", "hidden_states") else name: array for name, array in found.items()}
    if "query" not in named:
        raise InputError(f"the inputs have to have an array called query or hidden_states, not {', '.join(found)}")
    if len(named) < len(found):
        raise InputError("the inputs have both query and hidden_states, which are the same thing")
    if unknown := sorted(named.keys() - set(_INPUTS)):
        raise InputError(f"there is no input called {', '.join(unknown)}", hint=f"There are {', '.join(_INPUTS)}.")
    for name in ("query", "key", "value"):
        if name in named and named[name].ndim not in (2, 3):
            shape = named[name].shape
            raise InputError(f"the {name} is of shape {shape}, and must be (B, L, E), or (L, E) without a batch")
    return named


def _rounded(array: Array, dtype: str) -> Array:
    """Inputs as a layer of that type takes them."""
    return round_to(array, dtype) if array.dtype.kind == "f" else array


def _is_coarser(layer: FileLayer, given: Mapping[str, Array]) -> bool:
    """True if the layer's type does not hold all the numbers of the inputs."""
    if layer.precision is None:
        return False
    arrays = [given[name] for name in ("query", "key", "value") if name in given and given[name].dtype.kind == "f"]
    return any(not np.array_equal(round_to(each, layer.precision.name), each, equal_nan=True) for each in arrays)


def _in_precision(layer: FileLayer, precision: Precision) -> FileLayer:
    """The layer as it is computed in another type than its file has: its weights rounded to that."""
    if layer.weights is None:
        return layer
    rounded = {name: round_to(array, precision.name) for name, array in layer.weights.named().items()}
    return replace(layer, weights=Weights(**rounded), precision=precision)


def _require_names(outputs: Mapping[str, Array], every: Sequence[FileLayer], checked: Sequence[FileLayer]) -> None:
    """InputError for outputs of no step of no layer, and if there are none for those that are checked."""
    names = [layer.name for layer in every]
    known = {f"{name}/{step}" for name in names for step in STEP_NAMES}
    known |= set(STEP_NAMES) if len(checked) == 1 else set()
    hint = f"an array is called {names[0]}/output, say; steps are {', '.join(STEP_NAMES)}"
    if unknown := sorted(outputs.keys() - known):
        shown = ", ".join(map(repr, unknown[:_NAMED])) + (" and more" if len(unknown) > _NAMED else "")
        raise InputError(f"the outputs have {shown}, which is no step of a layer that is checked", hint=hint)
    layers = {layer.name for layer in checked}
    if not any(name.rpartition("/")[0] in layers or name in STEP_NAMES for name in outputs):
        raise InputError(f"the outputs have nothing for {', '.join(layers)}", hint=hint)


def _outputs_of(name: str, outputs: Mapping[str, Array], expected: Expected, *, is_only: bool) -> list[Observed]:
    """What a program gave for a layer: arrays called "LAYER/STEP", or "STEP" where there is one layer only."""
    found = {step: outputs[f"{name}/{step}"] for step in STEP_NAMES if f"{name}/{step}" in outputs}
    if is_only:
        found = {step: outputs[step] for step in STEP_NAMES if step in outputs} | found
    without_batch = {
        step: array[None] if array.ndim == expected.values[step].ndim - 1 else array for step, array in found.items()
    }
    return [Observed("outputs that were given", without_batch)] if found else []
