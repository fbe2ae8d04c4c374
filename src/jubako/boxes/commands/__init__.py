"""Any command in a box of its own, and what becomes of what it did."""
