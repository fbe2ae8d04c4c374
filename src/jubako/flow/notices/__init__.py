"""Telling somebody how a run has ended: a command, a mail, a request to a web server. `flow.reporting` starts it."""
