"""Small questions of speed, a file each, beside baselines of the same work: pytest-benchmark."""
