"""The one error family of LightCluster.

Every message names the key or file at fault, what was found there and what is allowed,
so that it can be acted on without reading code.
"""

from __future__ import annotations


class LightClusterError(Exception):
    """Base class: a mistake in the input or the surroundings, not in the program."""


class ConfigError(LightClusterError, ValueError):
    """One or more mistakes in the configuration, all of them listed."""


class DatasetError(LightClusterError):
    """A dataset whose layout, images or labels cannot be used."""


class ImageError(DatasetError):
    """One image (or its label map) that cannot be used; the others can."""


class WeightsError(LightClusterError):
    """Backbone weights that are missing, unreadable or of another architecture."""


class ModelError(LightClusterError):
    """A folder of a fitted run that is none, is damaged, or is of another version."""


class StoreError(LightClusterError):
    """A file written by an earlier step that is missing, damaged or of another version."""


class OutlivedError(LightClusterError):
    """A step whose run is at work no more, and which may leave no result."""
