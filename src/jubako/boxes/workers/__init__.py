"""A worker: the processes that have a pipeline loaded and run its tasks in boxes, one at a time."""
