"""The program that posts events to a collector: lines of JSON on stdin, the first says where, an empty one ends.

What becomes of each is a line on stdout: "+" it is taken, "-WHY" it is refused, "!WHY" nobody answers, and it is tried
again until somebody does. It ends with whoever has started it.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Final

from jubako.flow.notices.posting import Poster

__all__ = ["deliver", "main"]

_TIMEOUT_S: Final = 5.0
_FIRST_WAIT_S: Final = 0.2
_LONGEST_WAIT_S: Final = 5.0


def main() -> None:
    """Posts what comes on stdin."""
    told = json.loads(sys.stdin.buffer.readline())
    poster = Poster(told["url"])
    headers = {"Authorization": f"Bearer {told['api_key']}"} if told["api_key"] else {}
    parent = os.getppid()

    def say(line: str) -> None:
        os.write(1, f"{' '.join(line.split())}\n".encode())

    while (line := sys.stdin.buffer.readline().rstrip(b"\n")) and os.getppid() == parent:
        deliver(poster, line, headers, say=say, sleep=time.sleep, goes_on=lambda: os.getppid() == parent)


def deliver(
    poster: Poster,
    line: bytes,
    headers: dict[str, str],
    *,
    say: Callable[[str], None],
    sleep: Callable[[float], None],
    goes_on: Callable[[], bool],
) -> None:
    """Posts one event until somebody has taken or refused it; says what becomes of it."""
    wait_s = _FIRST_WAIT_S
    while goes_on():
        try:
            answer = poster.post(line, headers, _TIMEOUT_S)
        except TimeoutError:
            why = "the collector did not answer in time"
        except (OSError, http.client.HTTPException) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        else:
            if answer.is_taken:
                say("+")
                return
            why = f"the collector answered {answer.status} {answer.reason}"
            if not answer.may_be_taken_later:
                say(f"-{why}")
                return
        say(f"!{why}")
        sleep(wait_s)
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
