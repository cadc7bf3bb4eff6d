"""The caller's module: the form that it takes, its checks, its example inputs, its lines."""
