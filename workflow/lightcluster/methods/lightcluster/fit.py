"""Runs that apply the model of another run: its settings, and checks for contradictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightcluster.config import Config, lookup, walk_keys
from lightcluster.config.fit import Adoption
from lightcluster.errors import LightClusterError
from lightcluster.methods.protocol import WITHOUT_LABELS
from lightcluster.methods.sections import HOW
from lightcluster.model.folder import WEIGHTS, files_of, open_model, read_model


def _adopt(
    folder: Path, config: Config, raw: Mapping[str, Any], prefix: str
) -> tuple[Config, list[str]]:
    """Return a run's configuration with the settings of its model, and messages about problems.

    Weights are compared later, when they have been fetched.
    """
    try:
        model = read_model(folder)
    except LightClusterError as error:
        return config, [f"{prefix}fit.model = {str(folder)!r}: {error}"]
    problems = []
    for name, _ in walk_keys():
        section, _, last = name.partition(".")
        given = raw.get(section)
        if section in HOW and name != "backbone.weights" and given and last in given:
            own, fitted = lookup(config, name), lookup(model.config, name)
            if own != fitted:
                problems.append(
                    f"{prefix}{name} = {own!r}: the model was fitted with {fitted!r}; remove the "
                    "key, or fit another model"
                )
    settings = model.method_settings(folder)
    if "weights" in raw.get("backbone", {}):
        settings["backbone"]["weights"] = config.backbone.weights
    return Config.model_validate({**config.model_dump(), **settings}), problems


def _check(folder: Path, config: Config) -> None:
    from lightcluster.extraction.opening import check_weights  # imports torch

    check_weights(open_model(folder).config.backbone.model, folder / WEIGHTS)


ADOPTION = Adoption(
    adopt=_adopt,
    fitted_on=lambda folder, _: f"{read_model(folder).images}, {WITHOUT_LABELS}",
    files=lambda folder, _: files_of(folder),
    check=_check,
)
