"""Classes and download commands that all formats of COCO share.

Source: COCO-Stuff, ``labels.txt``.
"""

from __future__ import annotations

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
"""Names of the values 0 to 181 in the stuff-thing maps; a value is COCO's category id minus 1."""

FIRST_STUFF = 91
"""The first value of a stuff class; lower values are things."""

NEVER_ANNOTATED = frozenset({11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90})
"""Values of the 11 thing classes that COCO defines but never annotated."""

THINGS = tuple(value for value in range(FIRST_STUFF) if value not in NEVER_ANNOTATED)
"""Values of the 80 thing classes."""

THING_CLASSES = {value + 1: number for number, value in enumerate(THINGS, 1)}
"""Class id, 1 to 80, of each category id, 1 to 90, of COCO's instance annotations."""

THING_NAMES = ("background", *(COCO_NAMES[value] for value in THINGS))
"""Names of these classes, by class id."""

DOWNLOAD_IMAGES = """\
wget http://images.cocodataset.org/zips/val2017.zip    # and train2017.zip for `split: train2017`
unzip val2017.zip -d images"""
