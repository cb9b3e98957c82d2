"""PASCAL VOC 2012: layout and classes of its development kit."""

from __future__ import annotations

from lightcluster.datasets.formats.field import FieldFormat

_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip

_DOWNLOAD = """\
wget http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar
tar -xf VOCtrainval_11-May-2012.tar --strip-components=2
# for trainaug, save its list as ImageSets/Segmentation/trainaug.txt (one id per line) and copy the
# PNGs of SBD (SegmentationClassAug) that SegmentationClass lacks into that folder"""

VOC = FieldFormat(
    name="voc",
    title="PASCAL VOC",
    split="val",
    images="JPEGImages",
    image="{id}.jpg",
    labels="SegmentationClass",
    label="{id}.png",
    ids="ImageSets/Segmentation/{split}.txt",
    classes=_CLASSES,
    download=_DOWNLOAD,
)
