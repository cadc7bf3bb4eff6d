"""Runtimes that a bundle is compiled for."""
