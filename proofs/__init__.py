"""Every sampler against independent oracles, and against what is known exactly."""
