"""Base class of families whose networks are built by timm."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from lightcluster.extraction.backbones.protocol import Family, Published

if TYPE_CHECKING:
    from torch import nn


class TimmFamily(Family):
    """Networks of timm with the same architecture.

    Attributes
    ----------
    options : mapping
        Arguments for timm that allow images of any multiple of the patch size.
    """

    options: Mapping[str, Any]

    @abstractmethod
    def accepts(self, network: nn.Module) -> bool:
        """Return whether a network has the architecture of this family."""

    @abstractmethod
    def objection_to(self, network: nn.Module) -> str | None:
        """Return why a network of this architecture cannot be used; None if it can."""

    def outline(self, model: str) -> nn.Module | None:
        """Return the network of a model without values; None if it is not in this family."""
        network = self._outline(model)
        return None if network is None or self.objection_to(network) else network

    def refusal(self, model: str) -> str | None:
        """Return why a model with the architecture of this family cannot be used."""
        network = self._outline(model)
        return None if network is None else self.objection_to(network)

    def _outline(self, model: str) -> nn.Module | None:
        from lightcluster.extraction.backbones.timm_models import is_known, outline

        network = outline(model, self.options) if is_known(model) else None
        return network if network is not None and self.accepts(network) else None

    def build(self, model: str) -> nn.Module:
        """Return the network of a model, randomly initialised by torch's global generator."""
        from lightcluster.extraction.backbones.timm_models import create

        network = create(model, self.options)
        assert network is not None, "its outline could be made"
        return network

    def locate(self, model: str, revision: str | None = None) -> str:
        """Return where the weights are that timm publishes, or raise a WeightsError."""
        from lightcluster.extraction.backbones.timm_models import locate

        origin, cached = locate(model, self._published(model), revision)
        return "in the cache" if cached else f"will be downloaded from {origin}"

    def download(self, model: str, revision: str | None = None) -> tuple[nn.Module, str]:
        """Return the network with the weights that timm publishes, and where they are from."""
        from lightcluster.extraction.backbones.timm_models import download

        return download(model, self.options, self._published(model), revision)

    def _published(self, model: str) -> dict[str, Any]:
        outline = self.outline(model)
        assert outline is not None, "the model is of this family"
        return _configuration(outline)

    def size_of(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int] | None:
        """Return the size of a network from the names that timm's transformers have in common."""
        embedding = shapes.get("patch_embed.proj.weight", ())
        blocks = {name.split(".")[1] for name in shapes if name.startswith("blocks.")}
        if len(embedding) != 4 or not blocks:
            return None
        return {"dim": embedding[0], "depth": len(blocks), "patch_size": embedding[3]}

    def published(self, network: nn.Module) -> Published:
        """Return the preprocessing for the published weights of a network."""
        configuration = _configuration(network)
        return Published(
            configuration["mean"], configuration["std"], configuration["interpolation"]
        )


def _configuration(network: nn.Module) -> dict[str, Any]:
    return cast("dict[str, Any]", network.pretrained_cfg)
