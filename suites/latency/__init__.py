"""What `revstep bench` says of the bundled denoiser: the command itself, as a user runs it."""
