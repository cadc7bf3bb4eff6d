"""A diffusers scheduler whose step is one pass of revstep's kernels."""
