"""The GPU suite's parts: `suites/gpu_suite.py` runs them from a checkout."""
