"""The network's graph, walked on channel ids: what stands where, and which ids must go together."""
