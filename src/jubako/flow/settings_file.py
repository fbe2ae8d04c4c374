"""Where the settings of a pipeline are: in `jubako.toml` beside its file, or where $JUBAKO_CONFIG says.

Folders above the pipeline's are not looked into: what lies there may be somebody else's, and a hook is a command.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

__all__ = ["NAME", "find_settings_file"]

NAME: Final = "jubako.toml"
_VARIABLE: Final = "JUBAKO_CONFIG"


def find_settings_file(pipeline_file: str, environ: Mapping[str, str], *, given: str | None = None) -> str:
    """The file to read for a pipeline, "" if there is none. `given`, then $JUBAKO_CONFIG, may say "none"."""
    named = environ.get(_VARIABLE) if given is None else given
    if named is not None:
        return "" if named in ("", "none") else os.path.abspath(named)
    beside = os.path.join(os.path.dirname(os.path.abspath(pipeline_file)), NAME) if pipeline_file else ""
    return beside if beside and os.path.exists(beside) else ""
