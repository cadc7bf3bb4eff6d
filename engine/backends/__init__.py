"""The networks: one protocol, and what runs it."""
