"""Arrays that a check is given in files: .npy with one, .npz and .safetensors with several by name."""

from __future__ import annotations

import zipfile

import numpy as np

from jubako.errors import InputError
from jubako.verify.weight_file import open_weights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.attention.description import Array

__all__ = ["read_arrays"]


def read_arrays(path: str) -> dict[str, Array]:
    """The arrays of a file by name; the only one of an .npy file is called "". Nothing is unpickled."""
    if path.endswith(".safetensors"):
        weights = open_weights(path)
        return {name: weights.read(name) for name in weights.tensors}
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile, SyntaxError) as error:
        raise InputError(f"{path} holds no arrays: {str(error).partition(chr(10))[0]}") from error
