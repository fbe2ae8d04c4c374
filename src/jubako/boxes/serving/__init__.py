"""A small process that makes boxes ahead, for programs that run many commands in boxes."""
