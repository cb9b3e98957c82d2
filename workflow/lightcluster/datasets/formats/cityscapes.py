"""Cityscapes: the layout of its two archives, and the 27 classes of cityscapesScripts."""

from __future__ import annotations

from lightcluster.datasets.formats.field import IGNORE, FieldFormat

_CLASSES = (
    "road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail",
    "bridge", "tunnel", "pole", "polegroup", "traffic light", "traffic sign", "vegetation",
    "terrain", "sky", "person", "rider", "car", "truck", "bus", "caravan", "trailer", "train",
    "motorcycle", "bicycle",
)  # fmt: skip
"""Names of the classes with label ids 7 to 33."""

_FIRST = 7
"""The first label id that is a class; lower ids mean borders and unlabelled pixels."""

_VALUES = {
    # The label id of a license plate is -1: 255 in 8-bit label maps, 65535 in 16-bit ones.
    **dict.fromkeys((*range(_FIRST), 255, 65_535), IGNORE),
    **{_FIRST + number: number for number in range(len(_CLASSES))},
}

_DOWNLOAD = """\
# Cityscapes needs a login: register at https://www.cityscapes-dataset.com/register/, download
# leftImg8bit_trainvaltest.zip (11 GB) and gtFine_trainvaltest.zip (241 MB) from
# https://www.cityscapes-dataset.com/downloads/ into this folder, then
unzip leftImg8bit_trainvaltest.zip
unzip gtFine_trainvaltest.zip"""

CITYSCAPES = FieldFormat(
    name="cityscapes",
    title="Cityscapes",
    split="val",
    images="leftImg8bit/{split}",
    image="{city}/{id}_leftImg8bit.png",
    labels="gtFine/{split}",
    label="{city}/{id}_gtFine_labelIds.png",
    classes=_CLASSES,
    background=None,
    values=_VALUES,
    download=_DOWNLOAD,
)
