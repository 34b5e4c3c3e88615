"""The models that come with the package: one folder each (data, no code), found by lwasr_edge.hub.catalog."""
