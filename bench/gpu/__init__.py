"""The GPU suite's parts: `bench/gpu_suite.py` runs them from a checkout."""
