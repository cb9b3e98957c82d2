"""Frozen backbones, the extraction of patch features, and the store they are kept in.

Entry points: :func:`.weights.fetch_weights` prepares verified weights once,
:func:`.shard.extract_shard` turns one shard of images into a store, and
:class:`.store.FeatureStore` is what every later step reads.
"""
