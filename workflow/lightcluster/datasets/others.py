"""Files in the image folder that are not images by their suffix: they are counted and reported.

Only names are read. Whether a file with an image suffix is really an image is found when decoding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from posixpath import splitext

HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
"""Suffixes of HEIF, which can be read if pillow-heif is installed."""

HEIF_HINT = "HEIC needs pillow-heif: pip install 'lightcluster[heic]', or pip install pillow-heif"

IMAGE_SUFFIXES = frozenset(
    {
        ".apng", ".avif", ".bmp", ".dib", ".gif", ".icb", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc",
        ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pam", ".pbm", ".pfm", ".pgm", ".png",
        ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".vda", ".vst", ".webp",
        *(HEIF_SUFFIXES if find_spec("pillow_heif") else ()),
    }
)  # fmt: skip
"""Suffixes of files that count as images; the content determines the decoder."""

_RAW = """.3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef
    .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f"""
_OTHER = """.ai .bpg .bw .cur .czi .dcm .dcx .dds .djvu .ecw .emf .eps .exr .fit .fits .flif .fts
    .hdr .icns .ico .jxl .jxr .lif .mha .mhd .nd2 .ndpi .nii .nrrd .pcx .pdf .ps .psb .psd .qoi .ras
    .rgb .rgba .sgi .sid .svg .svgz .svs .vsi .wdp .wmf .xbm .xcf .xpm"""
_FILM = ".avi .m4v .mkv .mov .mp4 .mpeg .mpg .webm .wmv"

NOT_READ: dict[str, str] = {
    **dict.fromkeys(HEIF_SUFFIXES - IMAGE_SUFFIXES, HEIF_HINT),
    **dict.fromkeys(_RAW.split(), "raw camera data; convert it to TIFF, PNG or JPEG first"),
    **dict.fromkeys(_OTHER.split(), "an unsupported format; convert it to TIFF or PNG first"),
    **dict.fromkeys(_FILM.split(), "a video; extract its frames first"),
}
"""Suffixes of pictures that are not supported, and why."""

MOST_SUFFIXES = 40
"""Number of suffixes that are counted separately; the rarer ones are counted together."""

PASSED_OVER, NO_IMAGE = "passed over", "no image"


@dataclass(frozen=True)
class Others:
    """Skipped files with the same suffix.

    Attributes
    ----------
    suffix : str
        In lower case, with its dot; ``*`` for all rarer suffixes together, empty for no suffix.
    count : int
    example : str
        Path of the first file below the image folder.
    """

    suffix: str
    count: int
    example: str

    @property
    def what(self) -> str:
        """`PASSED_OVER` for pictures, `NO_IMAGE` for other files."""
        return PASSED_OVER if self.suffix in NOT_READ else NO_IMAGE

    @property
    def pattern(self) -> str:
        """Text for the column of image names."""
        return f"*{self.suffix}" if self.suffix not in ("*", "") else f"* ({self._of_them})"

    @property
    def _of_them(self) -> str:
        return "other suffixes" if self.suffix == "*" else "no suffix"

    @property
    def reason(self) -> str:
        """Why they were skipped, with their number."""
        files = f"{self.count} file{'s' * (self.count != 1)}, such as {printable(self.example)!r}"
        why = "not the image of its sample by its extension (see dataset.image_extension)"
        if self.suffix not in IMAGE_SUFFIXES:
            why = NOT_READ.get(self.suffix, "not an image by its suffix")
        return f"{files}: {why}"


def is_image(name: str) -> bool:
    """Return whether a file counts as an image by its suffix."""
    return suffix_of(name) in IMAGE_SUFFIXES


def is_picture(name: str) -> bool:
    """Return whether a file is a picture by its suffix, also one that cannot be read."""
    return is_image(name) or suffix_of(name) in NOT_READ


def suffix_of(name: str) -> str:
    """Return the suffix of a path in lower case."""
    return splitext(name)[1].lower()


def count_others(names: Iterable[str]) -> list[Others]:
    """Count files by their suffix; pictures come first, then the most frequent suffixes."""
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
    """Yield one line for skipped pictures, and one for other skipped files."""
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
            yield f"{total} {were} skipped{why}: {counts}"


def looked_for(others: Iterable[str]) -> str:
    """Return a message on the suffixes that were searched, and on the files found instead."""
    common = (".bmp", ".gif", ".jpg", ".png", ".tif", ".webp")
    looked = f"image suffixes are {', '.join(common)} and {len(IMAGE_SUFFIXES) - len(common)} more"
    return "; ".join([looked, *describe_others(count_others(others))])


def digest_others(others: Iterable[Others]) -> str:
    """Return a digest that changes when skipped files are added or removed."""
    text = repr([(one.suffix, one.count, one.example) for one in others])
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()


def printable(name: str) -> str:
    """Return a file name that can be written as UTF-8; invalid bytes are escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
