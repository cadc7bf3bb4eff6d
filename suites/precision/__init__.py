"""Ways to reduced precision, measured."""
