"""Reduced precision as a pass over the float32 graph."""
