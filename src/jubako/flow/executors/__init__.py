"""Where a task's `run()` happens: in this process, in a fork, or in a box."""
