"""Runs that are fitted elsewhere: the settings of their model, and what contradicts them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lightcluster.config.configuration import Config, lookup, walk_keys
from lightcluster.errors import LightClusterError
from lightcluster.kinds import METHOD


def adopt_fit(config: Config, raw: Mapping[str, Any], prefix: str) -> tuple[Config, list[str]]:
    """Return a run with the settings of its model, and what contradicts them.

    Weights are not compared here: whether they are the model's is seen when they are there.
    """
    from lightcluster.model.folder import read_model  # which describes a configuration itself

    assert config.fit.model is not None
    key = f"{prefix}fit.model = {str(config.fit.model)!r}"
    if config.method == "cause":
        return config, list(_untrained(config, prefix))
    if config.method != "lightcluster":
        return config, [f"{key}: `method: {config.method}` is always fitted on its images"]
    try:
        model = read_model(config.fit.model)
    except LightClusterError as error:
        return config, [f"{key}: {error}"]
    problems = []
    for name, _ in walk_keys():
        section, _, last = name.partition(".")
        given = raw.get(section)
        if section in METHOD and name != "backbone.weights" and given and last in given:
            own, fitted = lookup(config, name), lookup(model.config, name)
            if own != fitted:
                problems.append(
                    f"{prefix}{name} = {own!r}: its model was fitted with {fitted!r}; leave the "
                    "key out, or fit another model"
                )
    method = model.method_settings(config.fit.model)
    if "weights" in raw.get("backbone", {}):
        method["backbone"]["weights"] = config.backbone.weights
    return Config.model_validate({**config.model_dump(), **method}), problems


def _untrained(config: Config, prefix: str) -> Iterator[str]:
    """Yield what is wrong with the trained heads that a run applies, and what contradicts them."""
    from lightcluster.cause.adoption import probe_of, read_trained  # safetensors, and numpy with it

    assert config.fit.model is not None
    for seed in config.labelling.seeds:
        try:
            trained = read_trained(probe_of(config.fit.model, seed))
        except LightClusterError as error:
            yield f"{prefix}fit.model = {str(config.fit.model)!r}: {error}"
            continue
        keys = ("head", "size", "framing", "resampling")
        for key in (*(f"cause.{name}" for name in keys), "backbone.positions"):
            own, fitted = lookup(config, key), getattr(trained, key.rpartition(".")[2])
            if own != fitted:
                yield (
                    f"{prefix}{key} = {own!r}: the head of seed {seed} was trained with {fitted!r}"
                )
