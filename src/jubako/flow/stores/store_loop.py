"""The event loop that asynchronous clients of stores run in, in a thread of its own: one for the process.

It is ours, and not the one that fsspec has for everybody, so that it can be ended before this process forks: a child
would have the loop and not the thread. A child gets a loop of its own, and leaves its parent's alone. Imported where
there is such a client; asyncio takes 30 ms.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

__all__ = ["end_loop", "gather", "get_loop", "is_alone", "wait"]

_AT_ONCE: Final = 16  # questions under way at a time
_LATE_S: Final = 1.0  # how long clients may take to close their sockets

_NAME: Final = "jubako-stores"

_own: _Own | None = None
_abandoned: list[object] = []  # of the process this one was forked from: ending them here would end them there


def get_loop() -> Any:
    """The loop, which runs."""
    global _own  # noqa: PLW0603  (one for the whole process)
    if _own is None or _own.pid != os.getpid():
        if _own is not None:
            _abandoned.append(_own)
        _own = _Own()
    return _own.loop


def wait(work: Coroutine[Any, Any, Any]) -> Any:
    """What comes of `work`."""
    return asyncio.run_coroutine_threadsafe(work, get_loop()).result()


def gather(
    ask: Callable[..., Any], questions: Sequence[tuple[Any, ...]], is_hopeless: Callable[[Exception], bool]
) -> list[Any]:
    """What `ask` answers to each of `questions`, in order; an exception where it raised one.

    After an exception that `is_hopeless`, questions that are not under way yet are answered for by it.
    """

    async def ask_all() -> list[Any]:
        places = asyncio.Semaphore(_AT_ONCE)
        hopeless: list[Exception] = []

        async def ask_one(words: tuple[Any, ...]) -> Any:
            async with places:
                if hopeless:
                    raise hopeless[0]
                try:
                    return await ask(*words)
                except Exception as error:
                    if is_hopeless(error):
                        hopeless.append(error)
                    raise

        return await asyncio.gather(*map(ask_one, questions), return_exceptions=True)

    answers: list[Any] = wait(ask_all())
    return answers


def is_alone() -> bool:
    """True if no threads are in this process but those of the loop and the one that asks."""
    others = (thread for thread in threading.enumerate() if thread is not threading.current_thread())
    return all(thread.name.startswith(_NAME) for thread in others)


def end_loop() -> None:
    """Ends the loop and its thread, if this process has them. Idempotent."""
    global _own  # noqa: PLW0603  (as above)
    if _own is not None and _own.pid == os.getpid():
        _own.end()
        _own = None


class _Own:
    """A loop, and the thread it runs in."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(ThreadPoolExecutor(_AT_ONCE, _NAME))  # in which it asks for addresses of hosts
        self.thread = threading.Thread(target=self.loop.run_forever, name=_NAME, daemon=True)
        self.thread.start()

    def end(self) -> None:
        asyncio.run_coroutine_threadsafe(_finish_tasks(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


async def _finish_tasks() -> None:
    """Waits for what is under way: clients close their sockets in tasks of their own."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    if others:
        _, late = await asyncio.wait(others, timeout=_LATE_S)
        for task in late:
            task.cancel()
    await asyncio.get_running_loop().shutdown_default_executor()
