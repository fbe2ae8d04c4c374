"""Sends what a box has staged for stores: the step between check() and publishing, in a process of its own.

    begin     the bytes of all outputs are sent, and nothing is shown; what a task has put into a store itself is
              looked for. A failure or Ctrl-C up to here leaves stores as they were.
    commit    outputs are shown, one after another in the order they are declared. Each is atomic, and the set of them
              is not: a store has no transactions. A failure here leaves those before it, and the sentence names them.

The files of this machine that the task declares are published after that. So whatever ends a run in between, the task
is not done: what comes last is missing.
"""

from __future__ import annotations

import signal
import traceback
from collections.abc import Sequence
from typing import Any, Literal

from jubako.errors import JubakoError, WorkError
from jubako.flow.executors.performing import Performed, describe_error

__all__ = ["upload"]


def upload(uploads: Sequence[tuple[Any, str]], unmade_outputs: Literal["fail", "name"] = "fail") -> Performed:
    """Sends to each target the local file staged for it, or looks if it is there where "" is.

    What is not there then is a failure, or is named in the answer (`run_rules.RunRules`).
    To be called in a child process that does nothing else: while outputs are shown, none of its signals is heard.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was sent is given up in good order
    begun: list[tuple[Any, Any]] = []
    shown: list[str] = []
    try:
        for target, staged in uploads:
            if staged:
                begun.append((target, target.begin_upload(staged)))
        missing = [str(target) for target, staged in uploads if not staged and not target.exists()]
        if missing and unmade_outputs == "fail":
            raise WorkError(f"run() ended and did not make {', '.join(missing)}")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        while begun:
            target, one = begun.pop(0)
            one.commit()
            shown.append(str(target))
        return Performed("ok", unmade=missing)
    except KeyboardInterrupt as error:
        return Performed("cancelled", "it was interrupted", exception=error)
    except Exception as error:  # noqa: BLE001  (targets may be the pipeline's own)
        sentence = describe_error(error)
        if isinstance(error, JubakoError) and error.hint:
            sentence += f" ({error.hint})"
        if shown:
            sentence += f"; {', '.join(shown)} had been sent by then, and stays"
        return Performed("failed", sentence, "".join(traceback.format_exception(error)), error)
    finally:
        for _, one in begun:
            one.discard()
