"""Backends: each file imports its library only when it is used."""
