"""``revstep bench``: latency of bundles and services, and what was measured before."""
