"""The service on a Ray cluster: replicas with Ray Serve, bulk generation with Ray Data."""
