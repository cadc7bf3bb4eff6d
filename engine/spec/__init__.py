"""What is known of a network besides its weights: spec, schedule, grids, prediction."""
