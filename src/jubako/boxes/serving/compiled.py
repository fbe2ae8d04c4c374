"""The first process of boxes as a small program (`first.c`), compiled where there is a compiler, once for a state root.

It is an option: without it boxes are made by forks of the server, with the same outcome and twice the work.

    STATE/compiled/first-HASH    the program; the hash is of its source and of the machine
    STATE/compiled/first-HASH.failed    what the compiler said, which is not asked again
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.boxes.state import StateRoot

__all__ = ["find_compiled_first"]

_SOURCE = os.path.join(os.path.dirname(__file__), "first.c")
_FLAGS = ("-O2", "-std=gnu11")
_PATIENCE_S = 60


def find_compiled_first(state: StateRoot) -> str:
    """The path of the program, compiled now if it is not there; "" where it cannot be had."""
    try:
        with open(_SOURCE, "rb") as file:
            source = file.read()
    except OSError:  # jubako runs from an archive
        return ""
    name = f"first-{hashlib.sha256(source + os.uname().machine.encode()).hexdigest()[:16]}"
    path = os.path.join(state.path, "compiled", name)
    if os.access(path, os.X_OK):
        return path
    compiler = shutil.which("cc")
    if compiler is None or os.path.exists(f"{path}.failed"):
        return ""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    return path if _compile(compiler, path) else ""


def _compile(compiler: str, path: str) -> bool:
    """Compiles aside, and puts the program in its place: another process may be at it."""
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        result = os.path.join(folder, "first")
        said = ""
        # A static program starts in half of the time; not every machine has what that takes.
        for flags in ((*_FLAGS, "-static"), _FLAGS):
            command = [compiler, *flags, "-o", result, _SOURCE]
            try:
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                said += f"{error}\n"
                continue
            if done.returncode == 0:
                os.chmod(result, 0o700)
                os.rename(result, path)
                return True
            said += done.stderr
        with open(f"{path}.failed", "w", encoding="utf-8") as file:
            file.write(said)
        return False
