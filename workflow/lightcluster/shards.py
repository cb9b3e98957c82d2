"""The names of the shards of a dataset, and the paths of their files.

A shard is a part of the images, and the unit of parallel work. Each step writes one file for each
shard, named after it: ``sample/0000.npz``, ``sample/0001.npz`` and so on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shards:
    """The names of a number of shards, in order.

    Attributes
    ----------
    count : int
    """

    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> str:
        """Return the name of a shard."""
        if not 0 <= number < self.count:
            raise IndexError(f"there are {self.count} shards, and no shard {number}")
        return f"{number:04d}"

    def __iter__(self) -> Iterator[str]:
        return (self[number] for number in range(self.count))

    def paths(self, folder: Path, suffix: str = "") -> list[Path]:
        """Return the file of each shard in a folder.

        Parameters
        ----------
        folder : Path
        suffix : str
            Such as ``.npz``; empty for steps that write a folder for each shard.

        Returns
        -------
        list of Path
        """
        return [folder / f"{name}{suffix}" for name in self]


def number_of(name: str) -> int:
    """Return the number of a shard from its name."""
    return int(name)
