"""The `luigi` program: what the first word says, then Luigi's command line.

MyTask --date 2021-09-01 ...    runs a task
pipeline.py MyTask ...          runs a script that calls luigi.run() itself
deps MyTask ...                 lists the tasks on the way to --upstream-family, with their outputs
deps-tree MyTask ...            draws what a task requires, and what of it is done
grep --prefix P | --status S    looks tasks up in the ledger
"""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NoReturn

from jubako.errors import InputError
from jubako.luigi.importing import install

__all__ = ["main"]


def main(argv: Sequence[str], *, debug: bool = False) -> NoReturn:
    """Runs the program in this process and leaves with SystemExit. `debug`: with the traceback of what is refused."""
    install()
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:  # as `python -m luigi`
        sys.path.insert(0, here)
    try:
        _dispatch(argv)
    except InputError as error:
        if debug:
            traceback.print_exception(error)
        raise SystemExit(f"{error.message}\nhint: {error.hint}" if error.hint else error.message) from None
    sys.exit()


def _dispatch(argv: Sequence[str]) -> None:
    first = argv[0] if argv else ""
    if first in _WORDS:
        _WORDS[first](argv[1:])
    elif first.endswith(".py") and os.path.isfile(first):
        sys.argv = list(argv)
        sys.path.insert(0, os.path.dirname(os.path.abspath(first)))
        runpy.run_path(first, run_name="__main__")
    else:
        _run(argv)


def _run(argv: Sequence[str]) -> None:
    from jubako.luigi.retcodes import run_with_retcodes

    run_with_retcodes(argv)


def _deps(argv: Sequence[str]) -> None:
    from jubako.luigi.dependencies import main

    main(argv)


def _deps_tree(argv: Sequence[str]) -> None:
    from jubako.luigi.dependencies import main_tree

    main_tree(argv)


def _grep(argv: Sequence[str]) -> None:
    from jubako.luigi.grep import main

    main(argv)


_WORDS: Final[Mapping[str, Callable[[Sequence[str]], None]]] = {"deps": _deps, "deps-tree": _deps_tree, "grep": _grep}
