"""Names of clusters: kept in files of the user's own, and carried over to other clusters."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from lightcluster.cli import app
from lightcluster.datasets.manifest import Row, gather_csv, write_rows
from lightcluster.errors import ConfigError, StoreError
from lightcluster.exports.segmentation import open_segmentation
from lightcluster.names.file import Table, read_names, read_points
from lightcluster.names.listing import describe_carried
from lightcluster.names.matching import NOWHERE, carry_names, draw_points
from lightcluster.names.run import given_names, open_named, update_names
from lightcluster.places import NAMES, POINTS
from lightcluster.regions.painting import save_indexed

K = 5
"""Clusters, the background beside them."""


def test_a_point_of_each_cluster_lies_in_it():
    clusters = np.random.default_rng(0).integers(0, 4, (20, 30))
    points = draw_points("a", clusters, 0)
    assert [point.cluster for point in points] == [1, 2, 3]
    assert all(clusters[point.row, point.column] == point.cluster for point in points)
    assert points == draw_points("a", clusters, 0)
    assert [point.cluster for point in draw_points("a", clusters, None)] == [0, 1, 2, 3]
    assert draw_points("a", np.zeros((3, 3), int), 0) == []


@given(
    st.permutations(range(1, K + 1)),
    st.lists(st.integers(1, K), min_size=1, max_size=60),
    st.dictionaries(st.integers(1, K), st.sampled_from(["cat", "dog", "cow"])),
)
def test_names_follow_clusters_that_are_numbered_otherwise(order, before, named):
    now = [order[cluster - 1] for cluster in before]
    carried = carry_names(named, before, now)
    there = {cluster: name for cluster, name in named.items() if cluster in before}
    assert carried.names == {order[cluster - 1]: name for cluster, name in there.items()}
    assert carried.changed == (now != before)
    lost = set(named.values()) - set(there.values())
    assert len(carried.remarks) == len(lost)


def test_a_cluster_that_was_cut_in_two_gives_both_its_name():
    carried = carry_names({1: "dog"}, [1, 1, 1, 1, 2], [1, 1, 3, 3, 2])
    assert carried.names == {1: "dog", 3: "dog"}
    assert carried.remarks == ()


def test_what_is_not_certain_and_what_is_lost_is_said():
    before = [1] * 7 + [2] * 3 + [3] * 4
    now = [1] * 7 + [1] * 3 + [NOWHERE] * 4
    carried = carry_names({1: "dog", 2: "cat", 3: "cow"}, before, now)
    assert carried.names == {1: "dog"}
    assert [remark for remark in carried.remarks if "70%" in remark and "'dog'" in remark]
    assert [remark for remark in carried.remarks if "'cat' now" in remark and "cluster 1" in remark]
    assert [remark for remark in carried.remarks if "'cow' now" in remark and "in none" in remark]


def test_half_of_a_cluster_is_not_enough():
    assert carry_names({1: "dog"}, [1, 1, 2, 2], [4, 4, 4, 4]).names == {}


CLUSTERS = {
    f"image {number}.png": np.kron(
        np.random.default_rng(number).integers(0, K + 1, (3, 4)), np.ones((4, 4), int)
    )
    for number in range(12)
}


def paint(folder: Path, clusters: dict[str, np.ndarray]) -> None:
    for name, classes in clusters.items():
        save_indexed(classes.astype(np.uint16), folder / "0000" / name)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with segmentations of one seed."""
    dataset, folder = tmp_path / "photos", tmp_path / "photos" / "lightcluster"
    rows = [Row(name, Path(name), None, name, 12, 16) for name in CLUSTERS]
    write_rows(tmp_path / "0000.csv", rows, Row)
    paint(folder / "segmentation" / "seed-3", CLUSTERS)
    gather_csv([tmp_path / "0000.csv"], dataset / "manifest.csv")
    with (folder / "segmentation" / "seed-3" / "classes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "name", "color"])
        writer.writerow([0, "background", "#000000"])
        writer.writerows([n, f"cluster {n}", "#800000"] for n in range(1, K + 1))
    return folder


def command(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["names", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_names_are_given_and_taken_away(run: Path):
    output = command(run)
    assert read_names(run / NAMES) == {}
    assert "   5  -" in output
    output = command(run, "--set", "3=dog", "--set", "5= dog ", "--set", "1=background")
    assert "   3  dog" in output
    assert read_names(run / NAMES) == {1: "background", 3: "dog", 5: "dog"}
    assert given_names(run / "segmentation" / "seed-3") == {1: "background", 3: "dog", 5: "dog"}
    command(run, "--set", "3=")
    assert read_names(run / NAMES) == {1: "background", 5: "dog"}
    assert (run / NAMES).read_text().splitlines()[:2] == ["cluster,name", "1,background"]


def test_names_come_from_a_table(run: Path, tmp_path: Path):
    table = tmp_path / "names (1).csv"
    table.write_text('﻿cluster,name\r\n2,"cat, black"\r\n4,Käse\r\n', encoding="utf-8")
    command(run, "--apply", table)
    assert read_names(run / NAMES) == {2: "cat, black", 4: "Käse"}
    table.write_text("cluster,name\n2,\n4,cheese\n", encoding="utf-8")
    output = command(run, "--apply", table)
    assert read_names(run / NAMES) == {4: "cheese"}
    assert "cluster 2: no name, was 'cat, black'" in output
    assert "cluster 4: 'cheese', was 'Käse'" in output


def test_names_of_other_clusters_are_refused_and_nothing_is_written(run: Path, tmp_path: Path):
    table = tmp_path / "names.csv"
    seen = open_named(run).fingerprint()
    table.write_text(f"cluster,name,clustering\n2,cat,{seen}\n", encoding="utf-8")
    command(run, "--apply", table)
    assert read_names(run / NAMES) == {2: "cat"}
    before = (run / NAMES).read_bytes(), (run / POINTS).read_bytes()
    paint(run / "segmentation" / "seed-3", {"image 3.png": np.full((12, 16), 1)})
    table.write_text(f"cluster,name,clustering\n2,dog,{seen}\n", encoding="utf-8")
    with pytest.raises(StoreError, match="of other clusters than those in"):
        command(run, "--apply", table)
    assert ((run / NAMES).read_bytes(), (run / POINTS).read_bytes()) == before


def test_names_follow_when_the_clusters_change(run: Path):
    command(run, "--set", "3=dog", "--set", "5=cat")
    order = np.array([0, 4, 1, 2, 5, 3])
    paint(run / "segmentation" / "seed-3", {name: order[c] for name, c in CLUSTERS.items()})
    assert given_names(run / "segmentation" / "seed-3") == {2: "dog", 3: "cat"}
    assert read_names(run / NAMES) == {3: "dog", 5: "cat"}  # which nobody has overwritten
    output = command(run)
    assert "The clusters have changed" in output
    assert read_names(run / NAMES) == {2: "dog", 3: "cat"}
    assert read_names(run / "names-former-1.csv") == {3: "dog", 5: "cat"}
    assert "changed" not in command(run)


def test_the_end_of_a_run_says_what_became_of_the_names(run: Path):
    folder = run / "segmentation" / "seed-3"
    (none,) = describe_carried(open_named(folder))
    assert none == f"names          none yet: lightcluster names {run}"
    command(run, "--set", "3=dog", "--set", "5=cat", "--set", "4=cow")
    assert list(describe_carried(open_named(folder))) == [
        f"names          3 clusters are named: {run / NAMES}"
    ]
    order = np.array([0, 1, 1, 2, 1, 3])  # 4 becomes a part of 1
    paint(folder, {name: order[c] for name, c in CLUSTERS.items()})
    first, *remarks, place, last = describe_carried(open_named(folder))
    assert first.endswith("carried over, because the clusters have changed: 2 'dog', 3 'cat'")
    assert any("no cluster is called 'cow' now: its points are in cluster 1" in r for r in remarks)
    assert all(remark.startswith("  WARNING: ") for remark in remarks)
    assert f"lightcluster names {run}" in place
    assert last.strip() == str(run / NAMES)
    assert read_names(run / NAMES) == {3: "dog", 4: "cow", 5: "cat"}  # nothing was written


def test_clusters_are_listed_with_their_sizes(run: Path):
    rows = ["image_id,region,cluster,confidence,area,top,left,bottom,right"]
    rows += [f"{i},{r},{c},0.5,9,0,0,3,3" for i, r, c in (("a", 1, 2), ("a", 2, 2), ("b", 1, 3))]
    (run / "segmentation" / "seed-3" / "0000.csv").write_text("\n".join(rows) + "\n")
    output = command(run, "--set", "2=a cat")
    lines = output.splitlines()
    assert "  cluster  name   regions  images\n" in output  # and no match, without labels
    assert "        2  a cat        2       1" in lines
    assert "        3  -            1       1" in lines
    assert "        5  -            0       0" in lines


def test_exports_have_the_names(run: Path):
    command(run, "--set", "3=dog", "--set", "5=dog", "--set", "1=background")
    segmentation = open_segmentation(run / "segmentation" / "seed-3")
    assert [category.name for category in segmentation.categories] == [
        "cluster 2", "dog", "cluster 4"
    ]  # fmt: skip
    areas = dict.fromkeys(("cluster 2", "dog", "cluster 4"), 0)
    for picture in segmentation.pictures():
        for region in picture.regions:
            areas[region.category.name] += region.area
    whole = np.concatenate([c.ravel() for c in CLUSTERS.values()])
    assert areas["dog"] == np.isin(whole, (3, 5)).sum()
    assert sum(areas.values()) == (whole > 1).sum()


def test_the_segmentation_is_found_from_wherever_one_is(run: Path, tmp_path: Path):
    folder = run / "segmentation" / "seed-3"
    for place in (run, run / "segmentation", folder):
        assert open_named(place).segmentation == folder
        assert open_named(place).folder == run
    with pytest.raises(StoreError, match="has no segmentations of seed 7"):
        open_named(run, seed=7)
    with pytest.raises(StoreError, match=rf"did you mean {re.escape(str(run))}\?"):
        open_named(run.parent)
    shutil.copytree(folder, run / "segmentation" / "seed-12")
    assert open_named(run).segmentation == folder
    assert open_named(run, seed=12).segmentation.name == "seed-12"
    (run / "model").mkdir()
    (run / "model" / "model.json").write_text('{"seeds": [12, 3]}')
    assert open_named(run).segmentation.name == "seed-12"
    out = tmp_path / "out"
    (run / "segmentation" / "seed-3").rename(tmp_path / "segmentation")
    out.mkdir()
    (tmp_path / "segmentation").rename(out / "segmentation")
    assert open_named(out).folder == out
    assert open_named(out / "segmentation").folder == out


def test_of_a_file_that_cannot_be_read_the_path_is_named_once(tmp_path: Path):
    with pytest.raises(StoreError) as caught:
        read_names(tmp_path / "none.csv")
    missing = tmp_path / "none.csv"
    assert str(caught.value) == f"{missing}: cannot be read (No such file or directory)"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cluster,name\nx,dog\n", "line 2: 'x' is no number"),
        ("cluster,name\n1,dog\n1,cat\n", "line 3: cluster 1 is named twice"),
        ("number,name\n1,dog\n", "has no column 'cluster'"),
        ('cluster,name\n1,"do\ng"\n', "cannot be a name"),
        (f"cluster,name\n1,{'x' * 201}\n", "cannot be a name"),
        ("cluster,name,clustering\n1,dog,a\n2,cat,b\n", "several values in the column"),
    ],
)
def test_a_table_that_is_none_is_refused(run: Path, tmp_path: Path, text: str, words: str):
    table = tmp_path / "table.csv"
    table.write_text(text)
    with pytest.raises(StoreError, match=words):
        read_names(table)


def test_what_cannot_be_named_is_refused(run: Path):
    named = open_named(run)
    for cluster in (0, K + 1):
        with pytest.raises(StoreError, match=f"cluster {cluster}: there is none"):
            update_names(named, Table({cluster: "dog"}, None))
    with pytest.raises(ConfigError, match="must be a cluster and a name"):
        command(run, "--set", "dog")
    command(run)
    (run / POINTS).write_text("image,row,column,cluster\na,b,c,d\n")
    with pytest.raises(StoreError, match="is damaged"):
        read_points(run / POINTS)
