"""What no longer belongs among results: found, moved with its record, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightcluster.aside import find_strays, set_aside
from lightcluster.config import parse_config
from lightcluster.layout import Layout
from lightcluster.places import ASIDE, record_of


@pytest.fixture
def dataset(tmp_path):
    return tmp_path / "results" / "demo"


def write(path: Path, *, recorded: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(path.name)
    if recorded:
        record_of(path).parent.mkdir(exist_ok=True)
        record_of(path).write_text("{}")
    return path


def find(dataset: Path, *expected: Path) -> list[Path]:
    places = sorted(dataset.iterdir())
    known = {str(path) for path in expected}
    return list(find_strays(places, known, lambda path: record_of(path).exists()))


def test_results_are_strays_unless_expected_and_files_of_others_never(dataset):
    kept, gone = (write(dataset / "run/counts" / name) for name in ("0000.npz", "0001.npz"))
    write(dataset / "run/counts/notes.txt", recorded=False)
    assert find(dataset, kept) == [gone]
    assert find(dataset, kept, gone) == []


def test_nobody_looks_into_what_is_expected(dataset):
    inside = write(dataset / "run/segmentation/seed-0/0000/a.png")
    assert find(dataset, inside.parent) == []
    assert find(dataset) == [inside]


def test_what_is_set_aside_keeps_its_place_and_its_record(dataset):
    file = write(dataset / "run/segmentation/seed-1/classes.csv")
    mine = write(dataset / "run/notes.txt", recorded=False)
    target = set_aside([file], dataset)
    assert target.parent == dataset / ASIDE
    moved = target / "run/segmentation/seed-1/classes.csv"
    assert moved.read_text() == "classes.csv"
    assert record_of(moved).exists()
    assert sorted((dataset / "run").iterdir()) == [mine]


def test_what_a_job_is_about_to_write_is_copied_and_stays_until_then(dataset):
    file, stray = (write(dataset / "run/tables" / name) for name in ("edited.csv", "old.csv"))
    target = set_aside([file, stray], dataset, {str(file)})
    for path in (file, stray):
        place = target / path.relative_to(dataset)
        assert place.read_text() == path.name
        assert record_of(place).exists()
    assert file.exists()
    assert record_of(file).exists()
    assert not stray.exists()


def test_nothing_that_was_set_aside_is_replaced(dataset):
    targets = {set_aside([write(dataset / "run/a.csv")], dataset) for _ in range(3)}
    assert len(targets) == 3
    assert all((target / "run/a.csv").exists() for target in targets)


def test_other_runs_and_features_of_others_are_no_results_of_a_configuration(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    layout = Layout(parse_config({"runs": {"mine": {}}}))
    folder = Path(layout.dataset_folder)
    places = {path.name for path in layout.places()}
    assert "mine" in places
    assert not places & {"another", ASIDE}
    recorded = write(folder / "mine/parts.png")
    assert layout.is_result(recorded, None)
    assert not layout.is_result(write(folder / "mine/notes.txt", recorded=False), None)
    shard = folder / "features" / "another" / "0007.zarr"
    assert not layout.is_result(shard, {"features": "another", "shard": "0007"})
    own = layout.features_folder("mine").rpartition("/")[2]
    assert layout.is_result(folder / "features" / own / "0007.zarr", {"features": own})
    assert not layout.is_result(write(folder / "features/notes.txt"), None)
