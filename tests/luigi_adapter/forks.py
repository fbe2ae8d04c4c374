"""Runs command lines of `jubako luigi`, each in a fork of this process, which has imported what they need.

Takes orders as lines of JSON, and answers each with the exit code. What is printed goes to the files an order names.
The fork is what a fresh process would be: nothing is installed in this one, and no settings are read.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import jubako.luigi
from jubako.luigi.program import main


def become(order: dict[str, Any]) -> None:
    """Makes this process one that was started as the order says."""
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    for fd, path in ((0, os.devnull), (1, order["stdout"]), (2, order["stderr"])):
        os.dup2(os.open(path, os.O_RDWR), fd)


def serve() -> None:
    """Leaves with SystemExit in each fork."""
    for module in iter_modules(jubako.luigi.__path__, "jubako.luigi."):
        import_module(module.name)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become(order)
            main(order["words"])
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
