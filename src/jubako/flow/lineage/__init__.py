"""What a run reads and makes, told as OpenLineage has it. `flow.reporting` starts it."""
