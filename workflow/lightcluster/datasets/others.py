"""Files that lie among the images and are none by their suffix: they are counted, not forgotten.

Only names are looked at. What a file with the suffix of an image really holds is found out when it
is decoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from posixpath import splitext

HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
"""Read where pillow-heif is installed."""

HEIF_HINT = "HEIC needs pillow-heif: pip install 'lightcluster[heic]', or pip install pillow-heif"

IMAGE_SUFFIXES = frozenset(
    {
        ".apng", ".avif", ".bmp", ".dib", ".gif", ".icb", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc",
        ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pam", ".pbm", ".pfm", ".pgm", ".png",
        ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".vda", ".vst", ".webp",
        *(HEIF_SUFFIXES if find_spec("pillow_heif") else ()),
    }
)  # fmt: skip
"""Files that are taken for images; which decoder reads one is decided by its content."""

_RAW = """.3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef
    .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f"""
_OTHER = """.ai .bpg .bw .cur .czi .dcm .dcx .dds .djvu .ecw .emf .eps .exr .fit .fits .flif .fts
    .hdr .icns .ico .jxl .jxr .lif .mha .mhd .nd2 .ndpi .nii .nrrd .pcx .pdf .ps .psb .psd .qoi .ras
    .rgb .rgba .sgi .sid .svg .svgz .svs .vsi .wdp .wmf .xbm .xcf .xpm"""
_FILM = ".avi .m4v .mkv .mov .mp4 .mpeg .mpg .webm .wmv"

NOT_READ: dict[str, str] = {
    **dict.fromkeys(HEIF_SUFFIXES - IMAGE_SUFFIXES, HEIF_HINT),
    **dict.fromkeys(_RAW.split(), "a camera's raw data; develop it to TIFF, PNG or JPEG first"),
    **dict.fromkeys(_OTHER.split(), "a format that is not read; convert it to TIFF or PNG first"),
    **dict.fromkeys(_FILM.split(), "a film; extract its frames first"),
}
"""Suffixes of pictures that are not read, and why."""

MOST_SUFFIXES = 40
"""Suffixes that are told apart; the rarer ones are counted together."""

PASSED_OVER, NO_IMAGE = "passed over", "no image"


@dataclass(frozen=True)
class Others:
    """Files of one suffix that were passed over.

    Attributes
    ----------
    suffix : str
        In small letters, with its dot; ``*`` of the rarer ones together, empty of none.
    count : int
    example : str
        Path of the first of them below the folder of the images.
    """

    suffix: str
    count: int
    example: str

    @property
    def what(self) -> str:
        """`PASSED_OVER` of pictures, `NO_IMAGE` of other files."""
        return PASSED_OVER if self.suffix in NOT_READ else NO_IMAGE

    @property
    def pattern(self) -> str:
        """What stands in the place of an image's name."""
        return f"*{self.suffix}" if self.suffix not in ("*", "") else f"* ({self._of_them})"

    @property
    def _of_them(self) -> str:
        return "other suffixes" if self.suffix == "*" else "no suffix"

    @property
    def reason(self) -> str:
        """Why they were passed over, with their number."""
        files = f"{self.count} file{'s' * (self.count != 1)}, such as {printable(self.example)!r}"
        return f"{files}: {NOT_READ.get(self.suffix, 'no image by its suffix')}"


def is_image(name: str) -> bool:
    """Tell whether a file is taken for an image."""
    return suffix_of(name) in IMAGE_SUFFIXES


def suffix_of(name: str) -> str:
    """Return the suffix of a path, in small letters."""
    return splitext(name)[1].lower()


def count_others(names: Iterable[str]) -> list[Others]:
    """Count files by their suffix: pictures first, then the most frequent ones."""
    counts: dict[str, int] = {}
    first: dict[str, str] = {}
    for name in names:
        suffix = suffix_of(name)
        counts[suffix] = counts.get(suffix, 0) + 1
        first[suffix] = min(name, first.get(suffix, name))
    order = sorted(counts, key=lambda suffix: (suffix not in NOT_READ, -counts[suffix], suffix))
    listed = [Others(suffix, counts[suffix], first[suffix]) for suffix in order[:MOST_SUFFIXES]]
    if rarer := order[MOST_SUFFIXES:]:
        total, example = sum(counts[suffix] for suffix in rarer), first[rarer[0]]
        listed.append(Others("*", total, example))
    return listed


def describe_others(others: Iterable[Others]) -> Iterator[str]:
    """Yield a line for the pictures that were passed over, and one for the other files."""
    listed = list(others)
    for what, noun, why in (
        (PASSED_OVER, "picture", ", by suffix"),
        (NO_IMAGE, "other file", ""),
    ):
        of_kind = [one for one in listed if one.what == what]
        if of_kind:
            counts = ", ".join(
                f"{one.count} {printable(one.suffix) or 'without suffix'}".replace(" *", " others")
                for one in of_kind
            )
            total = sum(one.count for one in of_kind)
            were = f"{noun} was" if total == 1 else f"{noun}s were"
            yield f"{total} {were} passed over{why}: {counts}"


def looked_for(others: Iterable[str]) -> str:
    """Say which suffixes images have, and what is there instead of them."""
    common = (".bmp", ".gif", ".jpg", ".png", ".tif", ".webp")
    looked = f"looked for {', '.join(common)} and {len(IMAGE_SUFFIXES) - len(common)} more suffixes"
    return "; ".join([looked, *describe_others(count_others(others))])


def digest_others(others: Iterable[Others]) -> str:
    """Return a digest that changes when files that are passed over come or go."""
    text = repr([(one.suffix, one.count, one.example) for one in others])
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()


def printable(name: str) -> str:
    """Return a file's name as text that can be written: bytes that are no UTF-8 are escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
