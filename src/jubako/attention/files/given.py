"""Arrays that a check is given in files: .npy with one, .npz and .safetensors with several by name."""

from __future__ import annotations

from jubako.attention.array_file import open_arrays, read_archive, read_array
from jubako.errors import InputError
from jubako.verify.weight_file import open_weights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.attention.description import Array

__all__ = ["read_arrays"]

_MAGIC = b"\x93NUMPY"


def read_arrays(path: str) -> dict[str, Array]:
    """The arrays of a file by name, at least one; the only one of an .npy file is called "". Nothing is unpickled.

    They hold integers, real numbers or booleans. InputError, in a sentence, for anything else.
    """
    if path.endswith(".safetensors"):
        weights = open_weights(path)
        found = {name: weights.read(name) for name in weights.tensors}
    else:
        with open_arrays(path, _no_arrays) as file:
            is_one = file.read(len(_MAGIC)) == _MAGIC
            file.seek(0)
            found = {"": read_array(file)} if is_one else read_archive(file)
    if not found:
        raise InputError(f"{path} holds no arrays: it is empty")
    for name, array in found.items():
        if array.dtype.kind not in "fiub":
            shown = f"its array {name[:80]!r}" if name else "its array"
            raise InputError(
                f"{path}: {shown} is of type {str(array.dtype)[:40]}; attention takes real numbers and masks"
            )
    return found


def _no_arrays(path: str, error: Exception) -> InputError:
    return InputError(f"{path} holds no arrays: {str(error).partition(chr(10))[0]}")
