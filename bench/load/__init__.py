"""Open-loop load on a service: arrivals, the client, slices, and the highest rate that holds."""
