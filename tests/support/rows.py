"""Programs run in float64: the proofs' own."""

from proofs.float64_rows import run_rows

__all__ = ["run_rows"]
