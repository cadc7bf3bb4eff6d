"""Whether the benchmark's verdicts can be trusted: on equal sides, and on a planted slowdown."""
