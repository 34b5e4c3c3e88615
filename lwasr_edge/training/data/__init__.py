"""Manifests, corpora, batches and augmentation."""
