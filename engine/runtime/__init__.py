"""A table run over slots, on any device: requests, lanes, the loop, what a run reports."""
