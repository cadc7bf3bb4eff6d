"""What others would run in the engine's place, doing the same work: a baseline a file."""
