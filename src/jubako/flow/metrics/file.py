"""A file of metrics that runs add to, one after another: what each came to is added to what there is, in one step.

So its counters only grow, however many processes they come from, and a scrape never sees half of one. The file is ours
by its first line; one without it is refused, and never overwritten. Beside it lies for a moment `.NAME.PID`, which is
renamed onto it: a collector that reads `*.prom` does not see it. Who adds holds a lock on the folder (flock): without
it, of two runs that end at once one would be lost.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from jubako.errors import HostError, InputError
from jubako.flow.metrics.samples import Samples, SamplesError

__all__ = ["FIRST_LINE", "add_to_file", "check_file", "find_file_of", "read_text"]

FIRST_LINE: Final = "# Metrics of jubako, format 1. Each run adds to this file; remove it to begin anew.\n"
_PATIENCE_S: Final = 5.0
_PAUSE_S: Final = 0.01


def check_file(path: str) -> None:
    """InputError where `path` is something else, HostError where nothing can be written there."""
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.isdir(path):
        raise InputError(f"{path}, where metrics are to go, is a folder", hint="name a file, jubako.prom say")
    _read(path)
    if not os.access(folder, os.W_OK | os.X_OK):
        why = "cannot be written to" if os.path.isdir(folder) else "is not there"
        raise HostError(f"metrics cannot go to {path}: the folder {folder} {why}")


def find_file_of(state_root: str, pipeline: str) -> str:
    """Where runs of a pipeline are counted that nobody has said a file for; its folder is made."""
    folder = os.path.join(state_root, "metrics")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return os.path.join(folder, f"{hashlib.blake2b(os.fsencode(pipeline), digest_size=8).hexdigest()}.prom")


def add_to_file(path: str, samples: Samples) -> None:
    """Adds `samples` to the file, whole or not at all. InputError if it is not ours, OSError if it can't be written."""
    path = os.path.realpath(path)
    with _lock(os.path.dirname(path)):
        total, mode = _read(path)
        total.add(samples)
        _replace(path, FIRST_LINE + total.format(), mode)


def read_text(path: str) -> str:
    """The text of the file, "" if there is none. InputError if it is not ours."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise HostError(f"metrics in {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _refuse(path, "it is not text") from error
    if text and not text.startswith(FIRST_LINE):
        raise _refuse(path, "its first line is not jubako's")
    return text


def _read(path: str) -> tuple[Samples, int | None]:
    """What the file holds, and its mode if there is one."""
    text = read_text(path)
    try:
        samples = Samples.parse(text)
    except SamplesError as error:
        raise _refuse(path, str(error)) from error
    try:
        return samples, stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        return samples, None


def _refuse(path: str, why: str) -> InputError:
    return InputError(
        f"{path} holds no metrics of jubako: {why}", hint="name another file, or remove this one if nobody needs it"
    )


def _replace(path: str, text: str, mode: int | None) -> None:
    folder, name = os.path.split(path)
    aside = os.path.join(folder, f".{name}.{os.getpid()}")
    try:
        with open(aside, "w", encoding="utf-8") as file:
            file.write(text)
            if mode is not None:
                os.fchmod(file.fileno(), mode)
        os.replace(aside, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(aside)
        raise


@contextmanager
def _lock(folder: str) -> Iterator[None]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        until_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until_s:
                    raise
                time.sleep(_PAUSE_S)
        yield
    finally:
        os.close(fd)
