"""The CPU, measured: this tree beside an earlier build, diffusers, and every runtime."""
