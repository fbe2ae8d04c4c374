"""A module that a Python file makes, found by name, and the inputs it is to be called with.

The name is that of a module of torch's, or of a function without arguments that returns one; or a pair of it and its
inputs, or these and arguments by name.
"""

from __future__ import annotations

import importlib.util
import os
import sys

import numpy as np
import torch

from jubako.attention.checking.report import Report
from jubako.attention.files.given import read_arrays
from jubako.attention.observing.check import check_module
from jubako.attention.observing.holding import find_weights
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.attention.checking.options import CheckOptions

__all__ = ["check_subject"]


def check_subject(path: str, name: str, inputs: str, options: CheckOptions) -> Report:
    """The report of what is called `name` in a Python file, with the arrays of the file `inputs`, if that is not ""."""
    found = _get(_load(path), path, name)
    module, args, kwargs = _unpack(found, f"{path}:{name}")
    if inputs:
        args, kwargs = _read_inputs(inputs, module)
    return check_module(module, args, kwargs, options)


def _load(path: str) -> Any:
    specification = importlib.util.spec_from_file_location(os.path.basename(path).removesuffix(".py"), path)
    if specification is None or specification.loader is None:
        raise InputError(f"{path} is no Python file")
    loaded = importlib.util.module_from_spec(specification)
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    try:
        specification.loader.exec_module(loaded)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (Exception, SystemExit) as error:  # a file that leaves the process would leave with its own exit status
        raise InputError(f"{path} does not load: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    return loaded


def _get(loaded: Any, path: str, name: str) -> Any:
    if not hasattr(loaded, name):
        modules = [key for key, value in vars(loaded).items() if isinstance(value, torch.nn.Module)]
        functions = [key for key, value in vars(loaded).items() if callable(value) and not isinstance(value, type)]
        there = ", ".join([*modules, *functions][:8]) or "nothing that could be meant"
        raise InputError(f"{path} has nothing called {name}", hint=f"There is {there}.")
    value = getattr(loaded, name)
    if isinstance(value, torch.nn.Module) or not callable(value):
        return value
    try:
        return value()
    except (Exception, SystemExit) as error:
        raise InputError(f"{path}:{name}() raises {type(error).__name__}: {error}") from error


def _unpack(found: Any, label: str) -> tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any]]:
    parts = found if isinstance(found, tuple) else (found,)
    module = parts[0] if parts else None
    args = parts[1] if len(parts) > 1 else ()
    kwargs = parts[2] if len(parts) > 2 else {}
    if isinstance(args, torch.Tensor):
        args = (args,)
    if isinstance(args, dict) and len(parts) == 2:
        args, kwargs = (), args
    if not isinstance(module, torch.nn.Module) or not isinstance(args, (tuple, list)) or not isinstance(kwargs, dict):
        raise InputError(
            f"{label} is no module of torch's, nor a function that returns one",
            hint="With inputs it is (module, inputs) or (module, inputs, arguments by name).",
        )
    return module, tuple(args), kwargs


def _read_inputs(path: str, module: torch.nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arrays of a file as tensors, of the type of the module where they are real numbers; masks by their names."""
    like = next((weight for weight in find_weights(module) if weight.is_floating_point()), torch.empty(0))
    tensors = {}
    for name, array in read_arrays(path).items():
        tensor = torch.from_numpy(np.array(array))
        tensors[name] = tensor.to(like) if tensor.is_floating_point() else tensor.to(like.device)
    if "" in tensors:
        return (tensors[""],), {}
    if "query" in tensors and not {"key", "value"} & tensors.keys():
        return (tensors.pop("query"),), tensors
    return (), tensors
