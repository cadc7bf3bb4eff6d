"""RevstepScheduler beside diffusers' own schedulers: a step of each, in turns."""
