"""The `jubako` command, as a script and as `python -m jubako`. A Ctrl-C while it is still loading ends it quietly."""

from __future__ import annotations

import os

__all__ = ["start"]

_INTERRUPTED = 130  # as `cli.main` has it, which may not be loaded yet


def start() -> None:
    """Loads the command line and runs it with the arguments of this process."""
    try:
        from jubako.cli.main import main  # 0.1 s, in which a user may already have changed their mind

        main()
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)


if __name__ == "__main__":
    start()
