"""A live PyTorch module as a network."""
