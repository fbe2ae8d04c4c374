"""The engine: which task may start when. Pure: events in, instructions out."""
