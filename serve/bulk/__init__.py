"""Bulk generation: many samples into files, shard by shard, which a killed job goes on with."""
