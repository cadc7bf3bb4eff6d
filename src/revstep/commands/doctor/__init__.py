"""``revstep doctor``: what this machine can run."""
