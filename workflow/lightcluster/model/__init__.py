"""A fitted run as a folder, and its application to new images without fitting again.

>>> from lightcluster.model import segment
>>> segment(["holiday"], model="results/demo/lightcluster/model", output="segmented")
"""

from lightcluster.model.folder import Model, open_model
from lightcluster.model.segmentation import segment

__all__ = ["Model", "open_model", "segment"]
