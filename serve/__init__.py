"""Network faces of the service: HTTP, Ray, and Triton Inference Server's model repositories."""
