"""The exceptions of LightCluster.

Every message names the key or file, what was found and what is allowed, so that users can act on
it without reading code.
"""

from __future__ import annotations


class LightClusterError(Exception):
    """Base class: an error in the input or the environment, not in the program."""


class ConfigError(LightClusterError, ValueError):
    """The configuration has mistakes, all of which are listed."""


class DatasetError(LightClusterError):
    """The layout, images or labels of a dataset cannot be used."""


class ImageError(DatasetError):
    """An image or its label map cannot be used; others are not affected."""


class WeightsError(LightClusterError):
    """Backbone weights are missing, unreadable or of another architecture."""


class ModelError(LightClusterError):
    """A folder is not a fitted model, or the model is damaged or of another version."""


class StoreError(LightClusterError):
    """A file of an earlier step is missing, damaged or of another version."""


class OutlivedError(LightClusterError):
    """The run of a step has ended, so the step must not write a result."""


def reason_of(error: Exception) -> str:
    """Return the message of an error in one line; its type if it has none.

    Of an error of the system it is the cause alone, because the path is named before it.
    """
    cause = error.strerror if isinstance(error, OSError) else None
    return " ".join((cause or str(error)).split()) or type(error).__name__
