"""Classes of the field's datasets, and which class each value of their label maps stands for.

Sources: PASCAL VOC 2012 development kit; COCO-Stuff, ``labels.txt`` and its hierarchy (Caesar,
Uijlings and Ferrari, arXiv 1612.03716), in the order of supercategories that IIC (arXiv
1807.06653), PiCIE and STEGO have in common; cityscapesScripts, ``helpers/labels.py``.

Nothing heavy is imported here: the workflow is parsed with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

IGNORE = 255
"""Value of pixels without a class in all of these datasets."""


@dataclass(frozen=True)
class Taxonomy:
    """The classes of a dataset.

    Attributes
    ----------
    names : tuple of str
        In the order of class ids, from 0.
    background : int or None
        Class id of the background; None where every class is a thing or stuff of its own.
    values : mapping of int to int, or None
        The class id, or `IGNORE`, that each value of a label map stands for; other values are
        mistakes. None: values are class ids.
    """

    names: tuple[str, ...]
    background: int | None
    values: Mapping[int, int] | None = None


VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip

COCO_NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "street sign", "stop sign", "parking meter", "bench", "bird",
    "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "hat",
    "backpack", "umbrella", "shoe", "eye glasses", "handbag", "tie", "suitcase", "frisbee", "skis",
    "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard",
    "surfboard", "tennis racket", "bottle", "plate", "wine glass", "cup", "fork", "knife", "spoon",
    "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza",
    "donut", "cake", "chair", "couch", "potted plant", "bed", "mirror", "dining table", "window",
    "desk", "toilet", "door", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "blender", "book", "clock", "vase",
    "scissors", "teddy bear", "hair drier", "toothbrush", "hair brush", "banner", "blanket",
    "branch", "bridge", "building-other", "bush", "cabinet", "cage", "cardboard", "carpet",
    "ceiling-other", "ceiling-tile", "cloth", "clothes", "clouds", "counter", "cupboard",
    "curtain", "desk-stuff", "dirt", "door-stuff", "fence", "floor-marble", "floor-other",
    "floor-stone", "floor-tile", "floor-wood", "flower", "fog", "food-other", "fruit",
    "furniture-other", "grass", "gravel", "ground-other", "hill", "house", "leaves", "light",
    "mat", "metal", "mirror-stuff", "moss", "mountain", "mud", "napkin", "net", "paper",
    "pavement", "pillow", "plant-other", "plastic", "platform", "playingfield", "railing",
    "railroad", "river", "road", "rock", "roof", "rug", "salad", "sand", "sea", "shelf",
    "sky-other", "skyscraper", "snow", "solid-other", "stairs", "stone", "straw",
    "structural-other", "table", "tent", "textile-other", "towel", "tree", "vegetable",
    "wall-brick", "wall-concrete", "wall-other", "wall-panel", "wall-stone", "wall-tile",
    "wall-wood", "water-other", "waterdrops", "window-blind", "window-other", "wood",
)  # fmt: skip
"""Of the values 0 to 181 in the stuff-thing maps; a value is COCO's category id less one."""

FIRST_STUFF = 91
"""The first value that is stuff; those before it are things."""

NEVER_ANNOTATED = frozenset({11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90})
"""Values of the 11 things that COCO was to have, and has no annotation of."""

THINGS = tuple(value for value in range(FIRST_STUFF) if value not in NEVER_ANNOTATED)
"""Values of the 80 things."""

THING_CLASSES = {value + 1: number for number, value in enumerate(THINGS, 1)}
"""Class id, 1 to 80, of each category id, 1 to 90, of COCO's instance annotations."""

SUPERCATEGORIES: dict[str, tuple[range, ...]] = {
    "electronic": (range(71, 77),),
    "appliance": (range(77, 83),),
    "food": (range(51, 61),),
    "furniture": (range(61, 71),),
    "indoor": (range(83, 91),),
    "kitchen": (range(43, 51),),
    "accessory": (range(25, 33),),
    "animal": (range(15, 25),),
    "outdoor": (range(9, 15),),
    "person": (range(1),),
    "sports": (range(33, 43),),
    "vehicle": (range(1, 9),),
}
"""The supercategories of things, in the order of their class ids, with their values."""

STUFF_SUPERCATEGORIES: dict[str, tuple[int, ...]] = {
    "ceiling": (101, 102),
    "floor": (100, 113, 114, 115, 116, 117),
    "food-stuff": (120, 121, 152, 169),
    "furniture-stuff": (97, 106, 107, 109, 111, 122, 129, 132, 155, 160, 164),
    "raw material": (99, 131, 138, 142),
    "textile": (91, 92, 103, 104, 108, 130, 136, 140, 151, 166, 167),
    "wall": (170, 171, 172, 173, 174, 175, 176),
    "window": (179, 180),
    "building": (94, 95, 127, 150, 157, 165),
    "ground": (110, 124, 125, 135, 139, 143, 144, 146, 148, 153, 158),
    "plant": (93, 96, 118, 123, 128, 133, 141, 162, 168),
    "sky": (105, 156),
    "solid": (126, 134, 149, 159, 161, 181),
    "structural": (98, 112, 137, 145, 163),
    "water": (119, 147, 154, 177, 178),
}
"""The supercategories of stuff, likewise; their class ids follow those of things."""

CITYSCAPES_NAMES = (
    "road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail",
    "bridge", "tunnel", "pole", "polegroup", "traffic light", "traffic sign", "vegetation",
    "terrain", "sky", "person", "rider", "car", "truck", "bus", "caravan", "trailer", "train",
    "motorcycle", "bicycle",
)  # fmt: skip
"""Of the label ids 7 to 33."""

CITYSCAPES_FIRST = 7
"""The first label id that is a class; those before it are borders and what is unlabelled."""


def _supercategory_values() -> dict[int, int]:
    groups = [
        *((value for part in parts for value in part) for parts in SUPERCATEGORIES.values()),
        *STUFF_SUPERCATEGORIES.values(),
    ]
    return {value: number for number, group in enumerate(groups) for value in group}


def _cityscapes_values() -> dict[int, int]:
    classes = {CITYSCAPES_FIRST + number: number for number in range(len(CITYSCAPES_NAMES))}
    # The label id of a license plate is -1: 255 in a map of 8 bits, 65535 in one of 16.
    return dict.fromkeys((*range(CITYSCAPES_FIRST), 255, 65_535), IGNORE) | classes


_STUFF = range(FIRST_STUFF, len(COCO_NAMES))
_THING_NAMES = ("background", *(COCO_NAMES[value] for value in THINGS))

TAXONOMIES: dict[str, Taxonomy] = {
    "voc": Taxonomy(VOC_NAMES, background=0),
    "coco_stuff27": Taxonomy(
        (*SUPERCATEGORIES, *STUFF_SUPERCATEGORIES),
        background=None,
        values={**_supercategory_values(), 255: IGNORE},
    ),
    "coco_stuff81": Taxonomy(
        _THING_NAMES,
        background=0,
        values={
            **{value: number for number, value in enumerate(THINGS, 1)},
            **dict.fromkeys(_STUFF, 0),
            255: IGNORE,
        },
    ),
    "coco_stuff171": Taxonomy(
        tuple(COCO_NAMES[value] for value in (*THINGS, *_STUFF)),
        background=None,
        values={**{value: n for n, value in enumerate((*THINGS, *_STUFF))}, 255: IGNORE},
    ),
    "coco_things": Taxonomy(_THING_NAMES, background=0),
    "cityscapes": Taxonomy(CITYSCAPES_NAMES, background=None, values=_cityscapes_values()),
}
"""By the value of `dataset.format`."""


@dataclass(frozen=True)
class LabelFile:
    """A label map on disk.

    Attributes
    ----------
    path : Path
    taxonomy : str
        Name in `TAXONOMIES` whose ``values`` say which class each value in it stands
        for; empty where values are class ids.
    digest: str
        Of its content when it was indexed, see `digests.digest_of`; empty before that.
    """

    path: Path
    taxonomy: str = ""
    digest: str = ""
