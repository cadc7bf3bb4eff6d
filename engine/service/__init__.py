"""The service: requests that come and go share every network call of one engine."""
