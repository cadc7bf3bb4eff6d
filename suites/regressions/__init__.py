"""Figures that no machine's speed changes, against committed ones: `make bench-check`."""
