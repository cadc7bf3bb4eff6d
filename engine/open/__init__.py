"""From a bundle, or a live module, to an engine."""
