"""Requests of raw inputs, prompts and pictures: what the encoders make of them."""
