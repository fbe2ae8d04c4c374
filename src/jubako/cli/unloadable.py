"""Tells the hooks of a pipeline that it cannot be imported, or not say what is to run: a run that was to be is none."""

from __future__ import annotations

from contextlib import contextmanager

from jubako.cli.lines import describe_note
from jubako.cli.run_options import find_settings
from jubako.cli.terminal import echo
from jubako.errors import JubakoError
from jubako.flow.clock import SystemClock
from jubako.flow.interrupts import Interrupts
from jubako.flow.loader import find_pipeline_file
from jubako.flow.reporting import About, open_notifier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["find_config", "tell_of_unloadable", "telling_of_unloadable"]


def tell_of_unloadable(pipeline: str, asked: str, config: str | None, error: JubakoError) -> None:
    """Tells whoever wants to hear of failures. `error` is what the command goes on to end with."""
    try:
        file = find_pipeline_file(pipeline)
        settings = find_settings(file, config)
        if settings is None or not settings.notify:
            return
        notifier = open_notifier(settings.notify, About(file, asked), SystemClock())
    except JubakoError:  # there is no such pipeline; or its settings are wrong too, of which the next run will tell
        return
    with Interrupts(lambda: False) as interrupts:
        notes = notifier.finish(None, error, interrupts)
    for note in notes:
        echo(describe_note(note), err=True)


@contextmanager
def telling_of_unloadable(pipeline: str, asked: str, config: str | None) -> Iterator[None]:
    """What the block refuses is told to hooks before it goes on its way."""
    try:
        yield
    except JubakoError as error:
        tell_of_unloadable(pipeline, asked, config, error)
        raise


def find_config(words: Sequence[str]) -> str | None:
    """What --config gives on a line that is not parsed yet."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == "--config":
            return following
        if word.startswith("--config="):
            return word.partition("=")[2]
    return None
