"""From a sampler to a table of numbers: points, tracing, history, samplers."""
