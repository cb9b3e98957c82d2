"""What the released program of CAUSE does otherwise than this project by default, key by key.

`cause.recipe: released` makes these the defaults; what it does not follow is listed in
`docs/concepts/cause.md`.
"""

from __future__ import annotations

from typing import Any

TRAINING = ("weight_decay", "clip", "probe_weight_decay", "probe_clip", "probe_dropout")
"""The keys on which it depends what a linear probe changes: `linear_probe: as_released` has the
released defaults of these by itself."""

_EVERYWHERE: dict[str, Any] = {
    "size": 320,
    "resampling": "nearest",
    "clusterbook_crops": "full",
    "least_steps": 1,
    "teacher_start": "shared",
    "probe_start": "uniform",
    "probe_dropout": True,
    "crf_image": "bgr",
}

_CROPS: dict[str, dict[str, Any]] = {
    "coco_stuff81": {"fractions": [0.5, 0.8], "mirrored": True},
    "coco_stuff171": {"fractions": [0.5, 0.8], "mirrored": True},
    "voc": {"framing": "squash", "fractions": [0.3, 0.4, 0.5, 0.6, 0.7], "mirrored": True},
}
"""By `dataset.format`; others have the four corners and the centre, of half the sides."""


def released(dataset: str, head: str) -> dict[str, Any]:
    """Return the values of the released program by key of `cause`.

    Parameters
    ----------
    dataset : str
        Its `dataset.format`.
    head : {"mlp", "tr"}

    Returns
    -------
    dict
        On a dataset that the program has no settings for: those of COCO-Stuff-27, but gradients
        clipped to 1 in step 2 (where it fails) and not at all in step 3.
    """
    clips = {
        "coco_stuff27": {"clip": 2.0, "probe_clip": 2.0},
        "cityscapes": {"clip": 1.0, "probe_clip": 1.0},
    }
    if head == "mlp":
        clips["coco_stuff27"] = {"clip": 0.1, "probe_clip": 0.1}
    decay = 0.0 if dataset == "cityscapes" else 1e-4
    crops = {"framing": "crop", "fractions": [0.5], "mirrored": False}
    return {
        **_EVERYWHERE,
        **crops,
        **_CROPS.get(dataset, {}),
        "weight_decay": decay,
        "probe_weight_decay": decay,
        **clips.get(dataset, {"clip": 1.0, "probe_clip": None}),
    }
