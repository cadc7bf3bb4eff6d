"""TensorRT plans as networks."""
