"""What a box may use of the machine, and what it did use: planned from values, enforced, measured afterwards."""
