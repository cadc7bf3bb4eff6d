"""What measured times support: percentiles, convergence, outliers, verdicts; no clocks."""
