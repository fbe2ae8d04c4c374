"""What a box sees: planned from values, mounted, and read afterwards for what was written."""
