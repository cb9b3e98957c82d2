"""Settings of CAUSE's released code that differ from this project's defaults.

`cause.recipe: released` makes them the defaults. `docs/concepts/cause.md` lists the remaining
deviations from the released code.
"""

from __future__ import annotations

from typing import Any

TRAINING = ("weight_decay", "clip", "probe_weight_decay", "probe_clip", "probe_dropout")
"""Keys that determine how a linear probe changes the head: with `linear_probe: as_released`, they
have the released defaults in any recipe."""

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
"""Settings of the crops by `dataset.format`; the others use crops of half the image's sides."""


def released(dataset: str, head: str) -> dict[str, Any]:
    """Return the settings of the released code, by key of `cause`.

    Parameters
    ----------
    dataset : str
        Value of `dataset.format`.
    head : {"mlp", "tr"}

    Returns
    -------
    dict
        For a dataset that the released code does not support: the settings for COCO-Stuff-27, but
        gradients are clipped to 1 in step 2 (where the released code fails) and not in step 3.
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
