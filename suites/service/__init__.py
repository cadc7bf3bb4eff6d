"""The service under load: in-flight batching, whole generations, and one at a time."""
