"""The images of each shard, which planning lists for the jobs."""

from __future__ import annotations

import io
import os
import tarfile
import time
from pathlib import Path

import pytest

from lightcluster import digests
from lightcluster.config import parse_config
from lightcluster.datasets import lists
from lightcluster.datasets.lists import SUMMARY, list_shards, read_lists, write_lists
from lightcluster.datasets.manifest import index_dataset, list_rejected
from lightcluster.datasets.settings import DatasetSettings
from lightcluster.layout import Layout

GENERATED = Path("made")
LISTS = Path("lists")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Images with names of all kinds, in folders and in tars, in the working directory."""
    monkeypatch.chdir(tmp_path)
    names = ["a.jpg", "a.png", "b/ü.jpg", "b/\udcff.jpg", "c\n.tif", "x" * 250 + ".jpg", "d.txt"]
    for name in names:
        path = Path("images", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no image")
    Path("labels").mkdir()
    Path("labels/a.png").write_bytes(b"no label")
    Path("tars").mkdir()
    for number in range(5):
        with tarfile.open(f"tars/{number}.tar", "w") as tar:
            for name in ("1.jpg", "1.seg.png", "2.jpg", "../3.jpg"):
                item = tarfile.TarInfo(name)
                item.size = 3
                tar.addfile(item, io.BytesIO(b"abc"))


def settings(kind: str, **changes) -> DatasetSettings:
    raw = {
        "folder": {"images": "images", "labels": "labels", "classes": "c", "shard_size": 2},
        "webdataset": {"images": "tars", "label_extension": "seg.png", "shard_size": 4},
        "demo": {"demo": {"scenes": 9}, "shard_size": 4},
    }[kind]
    return DatasetSettings.model_validate({"format": kind, **raw, **changes})


def never_listed(monkeypatch) -> None:
    def listing(*args):
        raise AssertionError("the dataset is listed again")

    monkeypatch.setattr(lists, "list_dataset", listing)


@pytest.mark.parametrize("kind", ["folder", "webdataset", "demo"])
def test_jobs_read_what_planning_has_listed(kind, monkeypatch):
    dataset = settings(kind)
    listing = list_shards(dataset, GENERATED)
    assert len(listing.sizes) == 4
    write_lists(LISTS, listing, dataset, GENERATED)
    never_listed(monkeypatch)
    for shards in (None, 4):
        read = read_lists(LISTS, dataset, GENERATED, shards)
        assert (read.sizes, read.others, read.stamps) == (listing.sizes, listing.others, {})
        for number in range(4):
            assert read.entries(number) == listing.entries(number)
            assert len(read.entries(number)) == read.sizes[number]


def test_a_job_reads_the_list_of_its_own_shard_alone(monkeypatch):
    dataset = settings("folder")
    write_lists(LISTS, list_shards(dataset, GENERATED), dataset, GENERATED)
    for number in (0, 1, 3):
        (LISTS / f"{number:04d}.json").unlink()
    expected = list_shards(dataset, GENERATED).entries(2)
    never_listed(monkeypatch)
    assert read_lists(LISTS, dataset, GENERATED).entries(2) == expected


def damage_summary() -> None:
    (LISTS / SUMMARY).write_bytes((LISTS / SUMMARY).read_bytes()[:-5])


def damage_list() -> None:
    (LISTS / "0001.json").write_text("[]")


def mix_up() -> None:
    """Leave a list of another time, as a second planning might that is still at work."""
    before = (LISTS / "0001.json").read_bytes()
    Path("images/z.jpg").write_bytes(b"")
    write_lists(LISTS, list_shards(settings("folder"), GENERATED), settings("folder"), GENERATED)
    (LISTS / "0001.json").write_bytes(before)


@pytest.mark.parametrize(
    "spoil",
    [damage_summary, damage_list, mix_up, (LISTS / SUMMARY).unlink, (LISTS / "0001.json").unlink],
)
def test_lists_that_cannot_be_used_are_made_again(spoil):
    dataset = settings("folder")
    write_lists(LISTS, list_shards(dataset, GENERATED), dataset, GENERATED)
    spoil()
    read, fresh = read_lists(LISTS, dataset, GENERATED), list_shards(dataset, GENERATED)
    assert [read.entries(number) for number in range(4)] == [
        fresh.entries(number) for number in range(4)
    ]


@pytest.mark.parametrize(
    "changes", [{"labels": None}, {"label_pattern": "{name}.png"}, {"shard_size": 1}]
)
def test_lists_of_other_settings_are_not_used(changes):
    dataset, other = settings("folder"), settings("folder", **changes)
    write_lists(LISTS, list_shards(dataset, GENERATED), dataset, GENERATED)
    read, fresh = read_lists(LISTS, other, GENERATED), list_shards(other, GENERATED)
    assert read.sizes == fresh.sizes
    assert read.entries(0) == fresh.entries(0)


def test_steps_give_the_same_with_and_without_lists(monkeypatch):
    dataset = settings("folder", labels=None)
    write_lists(LISTS, list_shards(dataset, GENERATED), dataset, GENERATED)
    for name, given in (("anew", None), ("read", LISTS)):
        if given is not None:
            never_listed(monkeypatch)
        parts = [Path(name, f"{shard:04d}.rejected.csv") for shard in range(4)]
        for shard, part in enumerate(parts):
            manifest = Path(name, f"{shard:04d}.csv")
            index_dataset(dataset, GENERATED, shard, 4, None, manifest, part, lists=given)
        list_rejected(dataset, GENERATED, parts, Path(name, "rejected.csv"), given)
    found = {name: Path(name, "rejected.csv").read_bytes() for name in ("anew", "read")}
    assert found["anew"] == found["read"]
    assert found["read"].count(b"not an image in a supported format") == 5
    assert b"file name is not UTF-8" in found["read"]
    assert b"*.txt" in found["read"]


def test_planning_writes_lists_and_stamps_that_jobs_then_read(monkeypatch):
    configs = parse_config({"dataset": settings("folder").model_dump(mode="json")})
    Layout(configs)
    assert not Path(".snakemake").exists()  # `check` leaves nothing behind
    planned = Layout(configs, planning=True)
    stamps = [planned.files_stamp(shard) for shard in planned.shards]
    never_listed(monkeypatch)
    for name in Path("images").glob("*.jpg"):
        name.unlink()  # what was planned stays planned
    working = Layout(configs, working=True)
    assert [working.files_stamp(shard) for shard in working.shards] == stamps
    assert (working.n_images, working.others) == (planned.n_images, planned.others)
    assert working.all_entries() == planned.all_entries()
    for run in configs:
        for shard in working.shards:
            assert working.gallery_share(run, shard) == planned.gallery_share(run, shard)


def test_planning_again_forgets_the_stamps():
    configs = parse_config({"dataset": settings("folder").model_dump(mode="json")})
    planned = Layout(configs, planning=True)
    before = planned.files_stamp("0000")
    for path in (path for path in Path("images").rglob("*") if path.is_file()):
        path.write_bytes(b"another content")
    Layout(configs, planning=True)
    assert Layout(configs, working=True).files_stamp("0000") != before


# ---- planning again ------------------------------------------------------------------------------


OLD = 1_000_000_000


def age() -> None:
    """Date all files and folders back, so that a change cannot leave their times the same."""
    for path in [*Path("images").rglob("*"), *Path("labels").rglob("*"), *Path("tars").iterdir()]:
        os.utime(path, (OLD, OLD))
    Path("list.txt").write_text("images/a.jpg\timages/a.png\nimages/c.tif\n")
    os.utime("list.txt", (OLD, OLD))


@pytest.fixture
def later(monkeypatch):
    """Let a minute pass after everything that has been written."""
    now = time.time_ns
    monkeypatch.setattr(digests.time, "time_ns", lambda: now() + 60 * 10**9)


LISTED = {
    "folder": settings("folder"),
    "webdataset": settings("webdataset", classes="c"),
    "list": DatasetSettings(format="list", images="list.txt", classes="c", shard_size=1),
}


@pytest.mark.parametrize("kind", LISTED)
def test_planning_again_lists_nothing_and_reads_no_images(kind, later, monkeypatch):
    age()
    dataset = LISTED[kind]
    configs = parse_config({"dataset": dataset.model_dump(mode="json", exclude_unset=True)})
    before = Layout(configs, planning=True)
    stamps = [before.files_stamp(shard) for shard in before.shards]
    expected = [before.entries(shard) for shard in before.shards]
    never_listed(monkeypatch)

    def read(*args):
        raise AssertionError("the images of a shard are read")

    with monkeypatch.context() as patch:
        patch.setattr(lists, "_entry_of", read)
        patch.setattr(digests.Digests, "_known", property(read))
        again = Layout(configs, planning=True)
        assert [again.files_stamp(shard) for shard in again.shards] == stamps
        assert (again.n_images, again.others) == (before.n_images, before.others)
    assert [again.entries(shard) for shard in again.shards] == expected


def test_the_digest_of_one_file_reads_none_of_those_of_images(later, monkeypatch):
    """They are looked up again and again, and of ten million images they fill gigabytes."""
    age()
    configs = parse_config({"dataset": settings("folder").model_dump(mode="json")})
    Path("c").write_text("id,name")
    before = Layout(configs, planning=True)
    expected = before.classes_stamp, before.files_stamp("0000")
    read = []
    known = digests.Digests._known.func
    monkeypatch.setattr(
        digests.Digests, "_known", property(lambda own: read.append(own._cache.name) or known(own))
    )
    again = Layout(configs, planning=True)
    assert (again.classes_stamp, again.files_stamp("0000")) == expected
    assert set(read) == {f"{again.dataset.name}.few"}


def rename(kind: str) -> None:
    """Rename one image, or a tar, or exchange two lines of the list."""
    match kind:
        case "folder":
            Path("images/b/ü.jpg").rename("images/b/ö.jpg")
        case "webdataset":
            Path("tars/3.tar").rename("tars/7.tar")
        case "list":
            Path("list.txt").write_text("images/a.jpg\timages/c.tif\nimages/a.png\n")


def replace_content(kind: str) -> None:
    """Replace the content of an image or a tar by one of the same size."""
    path = Path("tars/3.tar" if kind == "webdataset" else "images/a.jpg")
    path.write_bytes(path.read_bytes().replace(b"abc", b"abd").replace(b"no image", b"no imago"))
    os.utime(path, (OLD, OLD))


@pytest.mark.parametrize("change", [rename, replace_content])
@pytest.mark.parametrize("kind", LISTED)
def test_planning_again_sees_every_change(kind, change, later):
    age()
    dataset = LISTED[kind]
    configs = parse_config({"dataset": dataset.model_dump(mode="json", exclude_unset=True)})
    before = Layout(configs, planning=True)
    stamps = [before.files_stamp(shard) for shard in before.shards]
    change(kind)
    after = Layout(configs, planning=True)
    fresh = Layout(configs)
    assert [after.entries(s) for s in after.shards] == [fresh.entries(s) for s in fresh.shards]
    changed = [after.files_stamp(shard) for shard in after.shards]
    assert changed == [fresh.files_stamp(shard) for shard in fresh.shards]
    assert changed != stamps
    if change is replace_content:  # other shards do not run again
        assert sum(old != new for old, new in zip(stamps, changed, strict=True)) == 1


def test_labels_that_come_and_go_are_seen_by_planning_again(later):
    age()
    configs = parse_config({"dataset": settings("folder").model_dump(mode="json")})
    Layout(configs, planning=True)
    Path("labels/b").mkdir()
    Path("labels/b/ü.png").write_bytes(b"no label")
    found = {entry.image_id: entry for entry in Layout(configs, planning=True).all_entries()}
    assert found["b/ü.jpg"].labels == Path("labels")


@pytest.mark.parametrize("spoil", [damage_summary, damage_list, (LISTS / "0001.files").unlink])
def test_lists_that_are_damaged_are_of_no_use_to_planning_either(spoil, later):
    age()
    dataset = settings("folder")
    fresh = lists.plan_lists(LISTS, dataset, GENERATED)
    spoil()
    planned = lists.plan_lists(LISTS, dataset, GENERATED)
    for number in range(4):
        assert planned.entries(number) == fresh.entries(number)
        assert planned.sources(number) == fresh.sources(number)


def test_what_has_only_just_been_changed_is_listed_each_time(monkeypatch):
    age()
    for kind in ("webdataset", "list"):  # whose change times are of now, though dated back
        lists.plan_lists(Path(kind), LISTED[kind], GENERATED)
        with monkeypatch.context() as patch:
            never_listed(patch)
            with pytest.raises(AssertionError, match="listed again"):
                lists.plan_lists(Path(kind), LISTED[kind], GENERATED)
