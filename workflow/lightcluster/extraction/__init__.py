"""Frozen backbones, the extraction of patch features, and the feature store.

Entry points: :func:`.weights.fetch_weights` verifies weights and saves them once,
:func:`.shard.extract_shard` writes the feature store of one shard of images, and
:class:`.store.FeatureStore` reads it in all later steps.
"""
