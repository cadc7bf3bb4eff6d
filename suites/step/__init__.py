"""The fused step on a CPU: speed, and what the compiled step is made of."""
