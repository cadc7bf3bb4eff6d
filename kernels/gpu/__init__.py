"""The step on a GPU: Triton, or compiled ahead of time."""
