"""Checkpoints of every kind, from the export to whole runs: what works where, as a table."""
