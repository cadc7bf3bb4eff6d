"""Suites that run from a checkout."""
