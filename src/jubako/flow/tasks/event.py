"""Names of what happens to a task; `Task.event_handler(Event.SUCCESS)` registers a callback for one of them.

Any string can be an event; these are the ones the engine itself triggers.
"""

from __future__ import annotations

__all__ = ["Event"]


class Event:
    """The events of the engine, by Luigi's names and values."""

    DEPENDENCY_DISCOVERED = "event.core.dependency.discovered"  # triggered for every (task, upstream task) pair
    DEPENDENCY_MISSING = "event.core.dependency.missing"
    DEPENDENCY_PRESENT = "event.core.dependency.present"
    BROKEN_TASK = "event.core.task.broken"
    START = "event.core.start"
    PROGRESS = "event.core.progress"  # triggered by `run()` itself, with whatever it likes to say
    FAILURE = "event.core.failure"
    SUCCESS = "event.core.success"
    PROCESSING_TIME = "event.core.processing_time"
    TIMEOUT = "event.core.timeout"
    PROCESS_FAILURE = "event.core.process_failure"
