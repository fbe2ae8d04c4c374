"""Calls of a model that is somebody's own: what it raises is told as that, in a sentence."""

from __future__ import annotations

from contextlib import contextmanager

import torch

from jubako.attention.free_memory import SizeError
from jubako.errors import InputError, JubakoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ModelError", "describe_error", "telling_errors"]

_NO_MEMORY = ("can't allocate memory", "DefaultCPUAllocator: not enough memory")  # torch's words, as a RuntimeError


class ModelError(InputError):
    """The model that was to be checked raised something. `kind` is the name of what."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"the model raises {describe_error(error)}")
        self.error = error


@contextmanager
def telling_errors() -> Iterator[None]:
    """Within it the model is called: ModelError for what that raises; SizeError if memory was what it lacked."""
    try:
        yield
    except JubakoError:
        raise
    except (Exception, SystemExit) as error:  # the model's own code
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(said in str(error) for said in _NO_MEMORY):
            raise SizeError(
                f"the model itself needs more memory than there is: {describe_error(error)}",
                hint="Call it with fewer sequences, or shorter ones.",
            ) from error
        raise ModelError(error) from error


def describe_error(error: BaseException) -> str:
    """Its class and the first line of what it says, without a full stop."""
    first = next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
