"""Listing a dataset and dividing it into shards."""

from __future__ import annotations

import os
from collections import Counter
from itertools import chain
from pathlib import Path, PurePosixPath
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightcluster.datasets import entries as listed
from lightcluster.datasets.entries import Entry, LabelFile, output_names
from lightcluster.datasets.formats.folder import label_name
from lightcluster.datasets.listing import (
    count_shards,
    fingerprint,
    list_dataset,
    list_paths,
    shard_of,
    split_shards,
)
from lightcluster.datasets.settings import DatasetSettings
from lightcluster.digests import Digests
from lightcluster.errors import DatasetError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


def write(folder: Path, *names: str, content: str = "x") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def entries_of(images: Path, labels: Path | None = None) -> list[Entry]:
    settings = {"format": "folder", "images": images, "labels": labels, "classes": labels}
    return list_dataset(DatasetSettings.model_validate(settings), Path("unused"))


def ids_of(images: Path) -> list[str]:
    return [entry.image_id for entry in entries_of(images)]


# ---- which images there are ----------------------------------------------------------------------


def test_a_demo_is_listed_before_it_is_drawn():
    settings = DatasetSettings.model_validate({"demo": {"scenes": 3}})
    first, _, third = list_dataset(settings, Path("scenes"))
    assert first.path == Path("scenes/images/scene-0000.jpg")
    assert first.label == LabelFile(Path("scenes/labels/scene-0000.png"))
    assert (third.image_id, third.output) == ("scene-0002.jpg", "scene-0002.png")


def test_a_folder_is_listed_with_all_its_subfolders_in_the_order_of_names(images):
    write(images, "b.jpg", "a/z.jpg", "a/y/x.png", "c.webp")
    assert ids_of(images) == ["a/y/x.png", "a/z.jpg", "b.jpg", "c.webp"]
    assert entries_of(images)[0].path == images / "a/y/x.png"


def test_the_case_of_a_suffix_does_not_matter(images):
    write(images, "a.JPG", "b.Png", "c.tiff", "d.TIF", "e.JpEg")
    assert len(ids_of(images)) == 5


def test_other_files_are_no_images(images):
    write(images, "a.jpg", "notes.txt", "jpg", "b.jpg.part", "c.svg", "Thumbs.db", "d.jpg~")
    assert ids_of(images) == ["a.jpg"]


def test_hidden_files_and_folders_are_skipped(images):
    write(images, "a.jpg", ".b.jpg", "._a.jpg", ".git/c.jpg", "d/.e/f.jpg")
    assert ids_of(images) == ["a.jpg"]


def test_a_folder_named_like_an_image_is_no_image(images):
    write(images, "folder.jpg/a.png")
    assert ids_of(images) == ["folder.jpg/a.png"]


def test_links_are_followed_but_not_in_circles(images, tmp_path):
    write(tmp_path / "elsewhere", "a.jpg")
    (images / "linked").symlink_to(tmp_path / "elsewhere")
    (images / "linked.jpg").symlink_to(tmp_path / "elsewhere" / "a.jpg")
    (images / "circle").symlink_to(images)
    (tmp_path / "elsewhere" / "back").symlink_to(images)
    (images / "itself").symlink_to("itself")
    (images / "up").symlink_to("..")
    (images / "root.jpg").symlink_to("/")
    (tmp_path / "elsewhere" / "up").symlink_to("..")
    assert ids_of(images) == ["linked.jpg", "linked/a.jpg"]


def test_a_link_to_nothing_is_listed_so_that_it_is_rejected(images):
    (images / "a.jpg").symlink_to("nowhere.jpg")
    (images / "b.jpg").symlink_to("b.jpg")
    (images / "c").symlink_to("nowhere")
    assert ids_of(images) == ["a.jpg", "b.jpg"]


def test_names_are_kept_as_they_are(images):
    names = [
        "-a.jpg",
        "a b.jpg",
        "a\nb.jpg",
        "a\rb.jpg",
        'a"b.jpg',
        "a;b,c.jpg",
        "żółć.jpg",
        "~.jpg",
    ]
    write(images, *names)
    assert sorted(ids_of(images)) == sorted(names)


def test_a_name_that_is_no_utf8_is_listed(images):
    with open(os.fsencode(images) + b"/\xe9.jpg", "wb"):
        pass
    (entry,) = entries_of(images)
    assert entry.path.exists()
    assert len(fingerprint([entry])) == 32
    assert 0 <= shard_of(entry.image_id, 8) < 8


@pytest.mark.parametrize("key", ["images", "labels"])
def test_a_missing_folder_is_named_with_its_key(images, tmp_path, key):
    write(images, "a.jpg")
    folders = {"images": images, "labels": images, key: tmp_path / "nowhere"}
    with pytest.raises(
        DatasetError, match=rf"dataset\.{key} = '.*nowhere': there is no such folder"
    ):
        entries_of(**folders)


def test_a_file_is_no_folder(tmp_path):
    write(tmp_path, "a.jpg")
    with pytest.raises(DatasetError, match=r"dataset\.images = .*there is no such folder"):
        entries_of(tmp_path / "a.jpg")


def test_an_empty_folder_is_named_with_its_key_and_what_is_looked_for(images):
    write(images, "notes.txt", "below/notes.txt", ".hidden.jpg")
    with pytest.raises(DatasetError, match=r"dataset\.images = '.*images': no images found.*\.jpg"):
        entries_of(images)


def test_a_folder_that_cannot_be_listed_is_named(images, monkeypatch):
    write(images, "a.jpg", "locked/b.jpg")

    def scandir(path: Path) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    real = os.scandir
    monkeypatch.setattr(listed.os, "scandir", scandir)
    with pytest.raises(DatasetError, match=r"locked.*: cannot be listed \(.*Permission denied"):
        entries_of(images)


# ---- labels --------------------------------------------------------------------------------------


def test_a_label_has_the_path_of_its_image_with_png(images, tmp_path):
    labels = tmp_path / "labels"
    write(images, "a.jpg", "b/a.JPEG", "c.tar.webp", "d.png", "none.jpg", "upper.jpg")
    write(labels, "a.png", "b/a.png", "c.tar.png", "d.png", "none.jpg", "upper.PNG", "e.png")
    found = {
        entry.image_id: entry.label and entry.label.path for entry in entries_of(images, labels)
    }
    assert found == {
        "a.jpg": labels / "a.png",
        "b/a.JPEG": labels / "b/a.png",
        "c.tar.webp": labels / "c.tar.png",
        "d.png": labels / "d.png",
        "none.jpg": None,
        "upper.jpg": None,
    }


def test_without_a_label_folder_nothing_has_a_label(images):
    write(images, "a.jpg", "b.png")
    assert [entry.label for entry in entries_of(images)] == [None, None]


# ---- names of outputs ----------------------------------------------------------------------------


def test_an_output_has_the_path_of_its_image_with_png():
    assert output_names(["a.jpg", "b/a.jpg", "b/c.d.tiff"]) == ["a.png", "b/a.png", "b/c.d.png"]


def test_images_that_differ_in_the_suffix_alone_keep_it():
    assert output_names(["a.jpg", "a.png", "b.jpg"]) == ["a.jpg.png", "a.png.png", "b.png"]


def test_images_that_differ_in_case_alone_have_different_outputs():
    first, second = output_names(["A.jpg", "a.jpg"])
    assert first.casefold() != second.casefold()


def test_an_output_is_never_named_like_a_folder_of_outputs():
    names = output_names(["a.jpg", "a.png/b.jpg", "A.JPG.png/c.jpg"])
    assert not {name.casefold() for name in names} & {"a.png", "a.jpg.png"}
    assert names[1:] == ["a.png/b.png", "A.JPG.png/c.png"]


PARTS = st.one_of(
    st.sampled_from(
        ["a", "A", "a.jpg", "a.png", "a.jpg.png", "b", "ß", "ss", "-", "a b", "*", "\n"]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=4),
).filter(lambda part: not part.startswith("."))
SUFFIXES = st.sampled_from([".jpg", ".JPG", ".png", ".tiff", ".jpg.png"])
IDS = st.builds(
    lambda folders, stem, suffix: "/".join([*folders, stem + suffix]),
    st.lists(PARTS, max_size=2),
    PARTS,
    SUFFIXES,
)


def no_folder_is_an_image(ids: list[str]) -> bool:
    """Whether such files can stand beside one another in one folder."""
    return not {str(folder) for name in ids for folder in PurePosixPath(name).parents} & set(ids)


@settings(deadline=None)
@given(st.lists(IDS, min_size=1, max_size=12, unique=True).filter(no_folder_is_an_image))
def test_outputs_are_unique_on_any_file_system_and_in_the_folder_of_their_image(ids):
    names = output_names(ids)
    assert max(Counter(name.casefold() for name in names).values()) == 1
    folders = {str(folder).casefold() for name in names for folder in PurePosixPath(name).parents}
    assert not folders & {name.casefold() for name in names}
    for image_id, name in zip(ids, names, strict=True):
        assert name.endswith(".png")
        assert PurePosixPath(name).parent == PurePosixPath(image_id).parent
        assert PurePosixPath(name).name.startswith(PurePosixPath(image_id).stem)


@pytest.mark.parametrize("stem", ["a" * 251, "é" * 125, "日" * 83, "\udcff" * 251, "a\u0301" * 83])
def test_outputs_of_long_names_can_be_written(tmp_path, stem):
    ids = [
        f"{folder}{stem}{suffix}" for folder in ("", "b/") for suffix in (".jpg", ".png", ".JPG")
    ]
    names = output_names(ids)
    assert len(set(names)) == len(ids)
    for image_id, name in zip(ids, names, strict=True):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        assert name.endswith(".png")
        assert len(os.fsencode(path.name)) <= 255
        assert PurePosixPath(name).parent == PurePosixPath(image_id).parent
        assert path.name[:50] == PurePosixPath(image_id).name[:50]
    assert output_names([f"{stem}.jpg"]) == [f"{stem}.png"]


def test_outputs_whose_accents_alone_differ_are_two_on_any_file_system():
    names = output_names(["caf\u00e9.jpg", "cafe\u0301.jpg", "CAFE\u0301.jpg"])
    assert len({normalize("NFC", name).casefold() for name in names}) == 3


def test_an_output_that_is_named_like_the_digest_of_another():
    ids = ["a.jpg", "A.jpg"]
    ids += [f"{name.removesuffix('.png')}.bmp" for name in output_names(ids)]
    assert len({name.casefold() for name in output_names(ids)}) == 4


def test_pipes_are_listed_so_that_they_are_rejected_by_name(images):
    write(images, "a.jpg")
    os.mkfifo(images / "b.jpg")
    (images / "c.jpg").symlink_to("b.jpg")
    (images / "d.jpg").symlink_to("/dev/zero")
    entries = list_dataset(DatasetSettings(format="folder", images=images), images)
    assert [entry.image_id for entry in entries] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


@settings(deadline=None)
@given(st.lists(IDS, min_size=1, max_size=8, unique=True), st.randoms())
def test_outputs_do_not_depend_on_the_order_of_the_images(ids, random):
    names = dict(zip(ids, output_names(ids), strict=True))
    random.shuffle(ids)
    assert dict(zip(ids, output_names(ids), strict=True)) == names


# ---- shards --------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 200_000), st.integers(1, 65_536))
def test_the_number_of_shards_is_the_least_power_of_two_that_suffices(images, shard_size):
    shards = count_shards(images, shard_size)
    assert shards & (shards - 1) == 0
    assert shards * shard_size >= images
    assert shards == 1 or shards // 2 * shard_size < images


@pytest.mark.parametrize(
    ("images", "shards"),
    [
        (1, 1), (256, 1), (257, 2), (16_384, 64), (16_385, 64), (118_000, 64), (4_194_304, 64),
        (4_194_305, 128), (10**7, 256),
    ],
)  # fmt: skip
def test_by_default_there_are_no_more_than_64_shards_unless_they_would_be_too_large(images, shards):
    assert count_shards(images, "auto") == shards


@settings(deadline=None)
@given(IDS, st.integers(0, 16))
def test_twice_the_shards_divide_each_shard_in_two(image_id, exponent):
    shards = 2**exponent
    assert 0 <= shard_of(image_id, shards) < shards
    assert shard_of(image_id, 2 * shards) % shards == shard_of(image_id, shards)


def test_the_shard_of_a_name_never_changes_between_versions():
    assert [shard_of(name, 64) for name in ("a.jpg", "b/a.jpg", "żółć.png")] == [56, 26, 3]


def test_shards_hold_every_image_once_in_order_and_are_of_similar_size():
    entries = [made_up(f"{number:06d}.jpg") for number in range(4096)]
    split = split_shards(entries, 16)
    assert sorted(chain(*split), key=lambda entry: entry.image_id) == entries
    assert all(part == sorted(part, key=lambda entry: entry.image_id) for part in split)
    assert all(200 < len(part) < 312 for part in split)


def test_more_shards_than_images_leave_shards_empty():
    split = split_shards([made_up("a.jpg")], 8)
    assert sorted(map(len, split)) == [0] * 7 + [1]


def made_up(name: str) -> Entry:
    return Entry(name, Path(name), None, str(PurePosixPath(name).with_suffix(".png")))


def fingerprints(images: Path, shards: int, labels: Path | None = None) -> list[str]:
    split = split_shards(entries_of(images, labels), shards)
    looked = Digests(images / ".digests")
    return [
        fingerprint(part, looked.of([place for entry in part for place in entry.places]))
        for part in split
    ]


def test_a_new_image_changes_only_the_shard_it_falls_into(images):
    write(images, *(f"{number}.jpg" for number in range(40)))
    before = fingerprints(images, 8)
    write(images, "new.jpg")
    after = fingerprints(images, 8)
    changed = [shard for shard in range(8) if before[shard] != after[shard]]
    assert changed == [shard_of("new.jpg", 8)]


def test_touching_a_file_changes_nothing(images, tmp_path):
    labels = tmp_path / "labels"
    write(images, "a.jpg", "b.jpg")
    write(labels, "a.png")
    before = fingerprints(images, 2, labels)
    for path in (images / "a.jpg", labels / "a.png"):
        os.utime(path, (1, 1))
    assert fingerprints(images, 2, labels) == before


@pytest.mark.parametrize("content", ["longer", "y", ""])
def test_an_image_replaced_by_another_changes_its_shard(images, content):
    write(images, "a.jpg", "b.jpg")
    before = fingerprints(images, 1)
    write(images, "a.jpg", content=content)
    assert fingerprints(images, 1) != before


def test_a_label_that_comes_goes_or_is_replaced_changes_its_shard(images, tmp_path):
    labels = tmp_path / "labels"
    labels.mkdir()
    write(images, "a.jpg")
    seen = [fingerprints(images, 1, labels)]
    for content in ("x", "y", "longer"):
        write(labels, "a.png", content=content)
        seen.append(fingerprints(images, 1, labels))
    assert len({str(prints) for prints in seen}) == 4
    (labels / "a.png").unlink()
    assert fingerprints(images, 1, labels) == seen[0]


def test_a_renamed_image_changes_its_shard():
    for one, other in [("a.jpg", "b.jpg"), ("a.jpg", "a.png"), ("\udce9.jpg", "\udce8.jpg")]:
        assert fingerprint([made_up(one)]) != fingerprint([made_up(other)])


def test_an_image_whose_output_gets_another_name_changes_its_shard(images):
    write(images, "a.jpg")
    before = fingerprints(images, 1)
    write(images, "a.png")
    assert fingerprint(entries_of(images)[:1]) != before[0]


@settings(deadline=None)
@given(st.lists(IDS, min_size=2, max_size=2, unique=True))
def test_where_a_name_ends_is_part_of_the_fingerprint(ids):
    assert fingerprint([made_up(ids[0])]) != fingerprint([made_up(ids[1])])
    assert fingerprint([made_up(ids[0]), made_up(ids[1])]) != fingerprint([made_up("".join(ids))])


def test_labels_among_the_images_are_refused(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "a.png").write_bytes(b"x")
    dataset = DatasetSettings(format="folder", images=tmp_path, labels=tmp_path / "labels")
    with pytest.raises(DatasetError, match=r"dataset\.labels = .*is inside the image folder"):
        list_dataset(dataset, tmp_path)


def test_images_anywhere(tmp_path):
    for name in ("a/1.jpg", "a/deep/2.PNG", "a/notes.txt", "a/.hidden/3.jpg", "b/1.jpg", "c.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "odd.name").write_bytes(b"")

    def ids(*names: str) -> list[str]:
        entries = list_paths([tmp_path / name for name in names])
        assert all(entry.path.is_file() and entry.label is None for entry in entries)
        assert len({entry.output for entry in entries}) == len(entries)
        return [entry.image_id for entry in entries]

    assert ids("a") == ["1.jpg", "deep/2.PNG"]
    assert ids("a", "a/1.jpg") == ["1.jpg", "deep/2.PNG"]
    assert ids("a", "b") == ["a/1.jpg", "a/deep/2.PNG", "b/1.jpg"]
    assert ids("a/deep/2.PNG") == ["2.PNG"]
    assert ids("odd.name", "c.webp") == ["c.webp", "odd.name"]  # what is named is tried
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"no images found; image suffixes are \.bmp"):
        ids("empty")
    with pytest.raises(DatasetError, match="no such file or folder"):
        ids("a", "gone")


# ---- names of label maps -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image_id", "pattern", "expected"),
    [
        ("a.jpg", "{stem}.png", "a.png"),
        ("sub/a.b.jpg", "{stem}_mask.png", "sub/a.b_mask.png"),
        ("sub/a.jpg", "masks/{name}.png", "sub/masks/a.jpg.png"),
        ("{name}.jpg", "{stem}/{name}.tif", "{name}/{name}.jpg.tif"),
        ("{stem}.jpg", "{stem}.png", "{stem}.png"),
    ],
)
def test_a_pattern_names_the_label_map_of_an_image(image_id, pattern, expected):
    assert label_name(image_id, pattern) == expected


def labelled(folder: Path, labels: list[str], **settings: str) -> dict[str, tuple[bool, str]]:
    """Return whether each of four images has a label map, and why it has none."""
    for place in ("images/sub", "labels/sub"):
        (folder / place).mkdir(parents=True)
    for name in ("im0.jpg", "im1.jpg", "im10.jpg", "sub/im2.jpg"):
        (folder / "images" / name).touch()
    for name in labels:
        (folder / "labels" / name).parent.mkdir(exist_ok=True)
        (folder / "labels" / name).touch()
    raw = {"format": "folder", "images": folder / "images", "labels": folder / "labels", **settings}
    entries = list_dataset(DatasetSettings.model_validate(raw), folder)
    return {entry.image_id: (entry.label is not None, entry.unlabelled) for entry in entries}


def test_what_is_there_instead_of_a_label_map_is_named(tmp_path):
    found = labelled(tmp_path, ["im0.PNG", "im1_mask.png", "mask-im10.tif", "im2.png"])
    for image, wanted, there in (
        ("im0.jpg", "im0.png", "im0.PNG"),
        ("im1.jpg", "im1.png", "im1_mask.png"),
        ("im10.jpg", "im10.png", "mask-im10.tif"),
        ("sub/im2.jpg", "sub/im2.png", "im2.png"),
    ):
        assert found[image] == (
            False,
            f"there is no label map '{wanted}'; there is '{there}' (see dataset.label_pattern)",
        )


def test_a_label_map_whose_accents_are_encoded_otherwise_is_named(tmp_path):
    """As macOS names files: the two look the same."""
    for folder, name in (("images", "caf\u00e9.jpg"), ("labels", "cafe\u0301.png")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()
    raw = {"format": "folder", "images": tmp_path / "images", "labels": tmp_path / "labels"}
    (entry,) = list_dataset(DatasetSettings.model_validate(raw), tmp_path)
    assert entry.label is None
    assert entry.unlabelled == (
        "there is no label map 'caf\u00e9.png'; there is 'cafe\u0301.png', whose accents are "
        "encoded differently (see dataset.label_pattern)"
    )


def test_with_its_pattern_a_label_map_is_found(tmp_path):
    found = labelled(tmp_path, ["im0_mask.png", "im1_mask.png", "sub/im2_mask.png"],
                     label_pattern="{stem}_mask.png")  # fmt: skip
    assert found == {
        "im0.jpg": (True, ""), "im1.jpg": (True, ""), "im10.jpg": (False, ""),
        "sub/im2.jpg": (True, ""),
    }  # fmt: skip


def test_where_no_label_map_fits_some_are_named(tmp_path):
    assert labelled(tmp_path / "a", ["x.png"])["im0.jpg"][1] == (
        "there is no label map 'im0.png'; there is 'x.png' (see dataset.label_pattern)"
    )
    assert "; there is no file at all" in labelled(tmp_path / "b", [])["im0.jpg"][1]


@pytest.mark.parametrize(
    "pattern",
    ["", "mask.png", "{stem}/../a.png", "/{stem}.png", ".{stem}.png", "{stem}{x}.png", "a\\{stem}",
     "{stem}.png/", "a//{stem}.png", "{{stem}}.png", " {stem}.png"],
)  # fmt: skip
def test_a_pattern_that_names_no_label_map_is_refused(pattern):
    raw = {"format": "folder", "images": "i", "label_pattern": pattern}
    with pytest.raises(ValueError, match=r"must contain \{stem\} or \{name\}, .* no other braces"):
        DatasetSettings.model_validate(raw)
