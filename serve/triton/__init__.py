"""Model repositories for Triton Inference Server: the sampling loop, and the network alone."""
