"""The page of timm's models against timm."""

from __future__ import annotations

import re

import pytest

from lightcluster.extraction.backbones.registry import reason_against
from lightcluster.model_list import MODULES, PAGE, names_of

TEXT = PAGE.read_text(encoding="utf-8")
LISTS = re.findall(
    r"^(?:Can be used|Cannot be used, because (.+)) \((\d+)\):\n\n((?:- .+\n)+)",
    TEXT[TEXT.index("## Vision Transformers") :],
    re.M,
)
LISTED = {name: reason for reason, _, names in LISTS for name in re.findall(r"`(\w+)`", names)}


def test_every_model_of_the_modules_is_listed_once() -> None:
    names = [name for module in MODULES for name in names_of(module)]
    assert sorted(LISTED) == sorted(names)
    assert sum(int(count) for _, count, _ in LISTS) == len(names) > 350


@pytest.mark.parametrize(
    "name",
    [
        "vit_7b_patch16_dinov3", "vit_small_patch16_dinov3_qkvb", "eva02_tiny_patch14_224",
        "vit_pe_spatial_base_patch16_512", "beitv2_base_patch16_224", "vit_base_patch16_siglip_512",
        "vit_relpos_small_patch16_224", "naflexvit_base_patch16_siglip", "aimv2_large_patch14_448",
        "vit_small_patch16_18x2_224", "samvit_base_patch16", "cait_xxs24_224",
    ],
)  # fmt: skip
def test_what_the_page_says_of_a_model_is_so(name: str) -> None:
    assert (reason_against(name) or "") == LISTED[name]


@pytest.mark.thorough
def test_what_the_page_says_of_every_sixth_model_is_so() -> None:
    """To build all of them, as `python -m lightcluster.model_list` does, takes minutes."""
    some = sorted(LISTED)[::6]
    assert {name: reason_against(name) or "" for name in some} == {
        name: LISTED[name] for name in some
    }
