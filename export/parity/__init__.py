"""The parity check, and the reference that it compares with."""

from typing import TYPE_CHECKING

from revstep import moved

if not TYPE_CHECKING:
    __getattr__ = moved.names(__name__)
