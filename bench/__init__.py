"""Measuring: latency of bundles, speed of the kernels."""
