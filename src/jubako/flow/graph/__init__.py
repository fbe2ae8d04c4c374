"""The graph: what tasks require, which of it is done, and what stands in the way."""
