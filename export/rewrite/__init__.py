"""Other forms of one graph, which a runtime computes faster; each with its own parity."""
