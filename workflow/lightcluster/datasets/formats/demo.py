"""The demo: generated scenes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from lightcluster.datasets.entries import Entry
from lightcluster.datasets.formats.protocol import Format
from lightcluster.sections import Section, Seed


class DemoSettings(Section):
    """Generated scenes (`format: demo`)."""

    scenes: int = Field(96, ge=1, le=100_000, description="Number of scenes.")
    seed: Seed = Field(
        0, description="Seed of the scenes; scene i depends only on this seed and on i."
    )


class DemoKeys(Section):
    """Keys of the section `dataset` that this format reads."""

    demo: DemoSettings = DemoSettings()


def demo_names(count: int) -> list[str]:
    """Return the names, without suffix, of the first `count` scenes of the demo."""
    return [f"scene-{index:04d}" for index in range(count)]


@dataclass(frozen=True, kw_only=True)
class DemoFormat(Format):
    """The scenes that the step `generate_demo` draws, with their label maps and classes."""

    def entries(self, dataset: DemoKeys, generated: Path, others: list[str]) -> list[Entry]:
        """List the scenes, which need not exist yet."""
        return [
            Entry(
                image_id=f"{name}.jpg",
                images=generated / "images",
                labels=generated / "labels",
                output=f"{name}.png",
                label_id=f"{name}.png",
            )
            for name in demo_names(dataset.demo.scenes)
        ]

    def sources(self, entry: Entry) -> tuple[str, ...]:
        """Return nothing, because all files are generated."""
        return ()

    def classes_file(self, dataset: DemoKeys, generated: Path) -> Path:
        """Return the file that is written with the scenes."""
        return generated / "classes.csv"


DEMO = DemoFormat(name="demo", summary="generated scenes", step="generate_demo", draws=True)
