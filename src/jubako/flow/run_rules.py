"""How a task is run: what is asked of it before and after, and what is put around it.

The defaults are jubako's own. The Luigi adapter sets what Luigi does, and what its users have configured.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, Literal

from jubako.records import record

__all__ = ["OUR_RULES", "RunRules"]


@record
class RunRules:
    """What an attempt consists of, beside `run()`. Workers of boxes get it pickled."""

    # What a run() is that ends and has not made the task's outputs: a failure, or a success that the result names.
    unmade_outputs: Literal["fail", "name"] = "fail"
    asks_requirements: bool = False  # whether each is complete just before run(): "Unfulfilled dependency at run time"
    asks_complete: bool = False  # a task whose complete() is False after run() has failed
    always_fork: bool = False  # a process per task even for one worker
    around: Callable[[Any], AbstractContextManager[Any]] | None = None  # entered with the task, around all of it


OUR_RULES: Final = RunRules()
