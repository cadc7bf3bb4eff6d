"""Devices: where arrays live and work is queued."""
