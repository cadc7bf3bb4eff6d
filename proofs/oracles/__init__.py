"""Samplers beside published ones: algorithms written out, and schedulers of diffusers."""
