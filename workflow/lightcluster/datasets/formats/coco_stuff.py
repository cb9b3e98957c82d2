"""COCO-Stuff: the stuff-thing maps in their published layout, with three sets of classes.

Sources: COCO-Stuff, ``labels.txt`` and its hierarchy (Caesar, Uijlings and Ferrari, arXiv
1612.03716); the order of the supercategories is that of IIC (arXiv 1807.06653), PiCIE and STEGO.
"""

from __future__ import annotations

from collections.abc import Mapping

from lightcluster.datasets.formats.coco import (
    COCO_NAMES,
    DOWNLOAD_IMAGES,
    FIRST_STUFF,
    THING_NAMES,
    THINGS,
)
from lightcluster.datasets.formats.field import IGNORE, FieldFormat

_CURATED = "curated/val2017/Coco164kFull_Stuff_Coarse_7.txt"
"""List of the 2,175 images of published results on COCO-Stuff-27, relative to the root."""

_THING_GROUPS: dict[str, tuple[range, ...]] = {
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
"""The supercategories of things and their values, in the order of class ids."""

_STUFF_GROUPS: dict[str, tuple[int, ...]] = {
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
"""The supercategories of stuff and their values; their class ids follow those of things."""

_DOWNLOAD = f"""\
{DOWNLOAD_IMAGES}
wget http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/stuffthingmaps_trainval2017.zip
unzip stuffthingmaps_trainval2017.zip -d annotations
# the lists of curated images, for `image_list: <root>/{_CURATED}`
wget https://www.robots.ox.ac.uk/~xuji/datasets/COCOStuff164kCurated.tar.gz
tar -xzf COCOStuff164kCurated.tar.gz"""

_STUFF = range(FIRST_STUFF, len(COCO_NAMES))


def _values_of_groups() -> dict[int, int]:
    groups = [
        *((value for part in parts for value in part) for parts in _THING_GROUPS.values()),
        *_STUFF_GROUPS.values(),
    ]
    return {value: number for number, group in enumerate(groups) for value in group}


def _stuff_maps(
    name: str,
    classes: tuple[str, ...],
    values: Mapping[int, int],
    *,
    background: int | None = None,
    summary: str = "",
) -> FieldFormat:
    return FieldFormat(
        name=name,
        summary=summary,
        title="COCO",
        split="val2017",
        images="images/{split}",
        image="{id}.jpg",
        labels="annotations/{split}",
        label="{id}.png",
        classes=classes,
        background=background,
        values={**values, 255: IGNORE},
        download=_DOWNLOAD,
    )


COCO_STUFF = (
    _stuff_maps(
        "coco_stuff27",
        (*_THING_GROUPS, *_STUFF_GROUPS),
        _values_of_groups(),
        summary="`coco_stuff…` reads the stuff-thing maps (27 supercategories; 80 things and "
        "background; 171 things and stuff)",
    ),
    _stuff_maps(
        "coco_stuff81",
        THING_NAMES,
        {**{value: n for n, value in enumerate(THINGS, 1)}, **dict.fromkeys(_STUFF, 0)},
        background=0,
    ),
    _stuff_maps(
        "coco_stuff171",
        tuple(COCO_NAMES[value] for value in (*THINGS, *_STUFF)),
        {value: n for n, value in enumerate((*THINGS, *_STUFF))},
    ),
)
