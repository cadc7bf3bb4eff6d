"""Diffusers folders: an adapter for each class of denoiser."""
