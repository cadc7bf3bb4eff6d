"""The caller's module, as it was given: its checks, its example inputs, its lines."""
