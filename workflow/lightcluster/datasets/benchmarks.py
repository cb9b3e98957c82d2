"""Where the files of the field's datasets are below their root, and how to get them.

The layouts are those in which the datasets are distributed: PASCAL VOC's development kit, the one
of COCO-Stuff's own page (also that of IIC, PiCIE and STEGO), and Cityscapes' two archives.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

CURATED = "curated/val2017/Coco164kFull_Stuff_Coarse_7.txt"
"""The list of 2,175 images that results on COCO-Stuff-27 are on, below the root of COCO."""


@dataclass(frozen=True)
class Benchmark:
    """The layout of a dataset below its root.

    In its patterns stand ``{split}``, ``{id}``, the id of an image, and ``{city}``, the id up to
    the first underscore.

    Attributes
    ----------
    split : str
        The split that is taken where none is set.
    images, labels : str
        Folders.
    image, label : str
        Paths of an image and its label map below these.
    ids : str or None
        The file that lists the images of a split; None: all images of the folder are of it.
    annotations : str or None
        The instance annotations that label maps are painted from. `labels` is then a folder
        that the workflow writes.
    download : str
        Commands that get and place the data, run in the root.
    """

    split: str
    images: str
    image: str
    labels: str
    label: str
    download: str
    ids: str | None = None
    annotations: str | None = None

    @property
    def suffix(self) -> str:
        """What the names of images end in after their id."""
        return self.image.rpartition("{id}")[2]

    def image_of(self, name: str) -> str:
        """Return the path of the image of an id below the folder of the images."""
        return self.image.format(id=name, city=name.partition("_")[0])

    def label_of(self, name: str) -> str:
        """Return the path of its label map below the folder of the labels."""
        return self.label.format(id=name, city=name.partition("_")[0])

    def how_to_get(self, root: Path) -> str:
        """Return the commands that get the data and place it in `root`."""
        place = shlex.quote(str(root))
        return f"mkdir -p {place} && cd {place}\n{self.download}"


_VOC = """\
wget http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar
tar -xf VOCtrainval_11-May-2012.tar --strip-components=2
# trainaug: put its list into ImageSets/Segmentation/trainaug.txt (one id a line) and the PNGs of
# SBD (SegmentationClassAug) that are missing in SegmentationClass there"""

_COCO_IMAGES = """\
wget http://images.cocodataset.org/zips/val2017.zip    # and train2017.zip for `split: train2017`
unzip val2017.zip -d images"""

_COCO_STUFF = f"""\
{_COCO_IMAGES}
wget http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/stuffthingmaps_trainval2017.zip
unzip stuffthingmaps_trainval2017.zip -d annotations
# the lists of curated images, for `image_list: <root>/{CURATED}`
wget https://www.robots.ox.ac.uk/~xuji/datasets/COCOStuff164kCurated.tar.gz
tar -xzf COCOStuff164kCurated.tar.gz"""

_COCO_THINGS = f"""\
{_COCO_IMAGES}
wget http://images.cocodataset.org/annotations/annotations_trainval2017.zip
unzip annotations_trainval2017.zip"""

_CITYSCAPES = """\
# Cityscapes needs a login: register at https://www.cityscapes-dataset.com/register/, download
# leftImg8bit_trainvaltest.zip (11 GB) and gtFine_trainvaltest.zip (241 MB) from
# https://www.cityscapes-dataset.com/downloads/ into this folder, then
unzip leftImg8bit_trainvaltest.zip
unzip gtFine_trainvaltest.zip"""

_STUFF_MAPS = Benchmark(
    split="val2017",
    images="images/{split}",
    image="{id}.jpg",
    labels="annotations/{split}",
    label="{id}.png",
    download=_COCO_STUFF,
)

BENCHMARKS: dict[str, Benchmark] = {
    "voc": Benchmark(
        split="val",
        images="JPEGImages",
        image="{id}.jpg",
        labels="SegmentationClass",
        label="{id}.png",
        ids="ImageSets/Segmentation/{split}.txt",
        download=_VOC,
    ),
    "coco_stuff27": _STUFF_MAPS,
    "coco_stuff81": _STUFF_MAPS,
    "coco_stuff171": _STUFF_MAPS,
    "coco_things": Benchmark(
        split="val2017",
        images="images/{split}",
        image="{id}.jpg",
        labels="",
        label="{id}.png",
        annotations="annotations/instances_{split}.json",
        download=_COCO_THINGS,
    ),
    "cityscapes": Benchmark(
        split="val",
        images="leftImg8bit/{split}",
        image="{city}/{id}_leftImg8bit.png",
        labels="gtFine/{split}",
        label="{city}/{id}_gtFine_labelIds.png",
        download=_CITYSCAPES,
    ),
}
"""By the value of `dataset.format`."""
