"""Programs run in float64: the proofs' own."""

from revstep.bench.proofs.rows import run_rows

__all__ = ["run_rows"]
