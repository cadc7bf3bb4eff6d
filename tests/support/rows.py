"""Programs run in float64: the proofs' own."""

from proofs.rows import run_rows

__all__ = ["run_rows"]
