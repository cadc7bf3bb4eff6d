"""The parity check, and the reference that it compares with."""
