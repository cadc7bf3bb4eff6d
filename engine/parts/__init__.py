"""Networks beside the denoiser."""
