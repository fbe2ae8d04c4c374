"""The `jubako` command, as a script and as `python -m jubako`. A Ctrl-C while it is still loading ends it quietly."""

from __future__ import annotations

import gc
import os
import sys

__all__ = ["start"]

_INTERRUPTED = 130  # as `cli.exits` has it, which may not be loaded yet


def start() -> None:
    """Loads the command line and runs it with the arguments of this process."""
    arguments = sys.argv[1:]
    gc.disable()  # all that is imported stays; looking through it for garbage again and again takes 2 ms
    try:
        from jubako.cli.short import find_call

        if (call := find_call(arguments)) is not None:
            from jubako.cli.exits import asks_for_debug, finish

            os._exit(finish(call, debug=asks_for_debug(arguments)))  # 3 ms earlier than by way of Python's own end

        from jubako.cli.main import main  # 30 ms, in which a user may already have changed their mind

        gc.enable()
        main(arguments)
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)


if __name__ == "__main__":
    start()
