"""Runs that apply the trained heads of another run, and checks for contradictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightcluster.config import Config, lookup
from lightcluster.config.fit import Adoption
from lightcluster.errors import LightClusterError
from lightcluster.methods.cause.adoption import PALETTE, check_probe, probe_of, read_trained


def _adopt(
    folder: Path, config: Config, raw: Mapping[str, Any], prefix: str
) -> tuple[Config, list[str]]:
    return config, list(_contradictions(folder, config, prefix))


def _contradictions(folder: Path, config: Config, prefix: str) -> Iterator[str]:
    """Yield a message for each problem of the trained heads, and for contradictory settings."""
    for seed in config.labelling.seeds:
        try:
            trained = read_trained(probe_of(folder, seed))
        except LightClusterError as error:
            yield f"{prefix}fit.model = {str(folder)!r}: {error}"
            continue
        keys = ("head", "size", "framing", "resampling")
        for key in (*(f"cause.{name}" for name in keys), "backbone.positions"):
            own, fitted = lookup(config, key), getattr(trained, key.rpartition(".")[2])
            if own != fitted:
                yield (
                    f"{prefix}{key} = {own!r}: the head of seed {seed} was trained with {fitted!r}"
                )


def _fitted_on(folder: Path, config: Config) -> str:
    return read_trained(probe_of(folder, config.labelling.seeds[0])).fitted_on


def _files(folder: Path, seed: int | None) -> list[Path]:
    assert seed is not None  # there is one probe per seed
    probe = probe_of(folder, seed)
    return [probe, probe.with_name(PALETTE)]


def _check(folder: Path, config: Config) -> None:
    for seed in config.labelling.seeds:
        check_probe(probe_of(folder, seed))


ADOPTION = Adoption(adopt=_adopt, fitted_on=_fitted_on, files=_files, check=_check)
