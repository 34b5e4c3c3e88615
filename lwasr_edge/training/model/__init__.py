"""The acoustic model in torch: configuration, features, Conformer, checkpoints."""
