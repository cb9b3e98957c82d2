"""The names of shards, and the files of all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightcluster.shards import Shards, number_of


def test_names_sort_as_the_shards_do_and_lead_back_to_them():
    names = list(Shards(1025))
    assert (names[0], names[7], names[1024]) == ("0000", "0007", "1024")
    assert names == sorted(names)
    assert [number_of(name) for name in names] == list(range(1025))


def test_the_files_of_all_shards_are_in_their_order():
    folder = Path("results/demo/sample")
    assert Shards(2).paths(folder, ".npz") == [folder / "0000.npz", folder / "0001.npz"]
    assert Shards(1).paths(folder) == [folder / "0000"]


def test_there_is_no_shard_beyond_the_last():
    shards = Shards(2)
    assert (len(shards), shards[1]) == (2, "0001")
    for number in (-1, 2):
        with pytest.raises(IndexError, match=f"no shard {number}"):
            shards[number]
