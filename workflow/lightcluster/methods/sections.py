"""The configuration sections that all methods have in common.

These are the sections of this project's method; other methods read some of them, and may have a
section of their own.
"""

from __future__ import annotations

from pathlib import Path

from lightcluster.clustering.settings import ClusteringSettings, SuperclassSettings
from lightcluster.datasets.settings import DatasetSettings
from lightcluster.extraction.settings import BackboneSettings, FeatureSettings
from lightcluster.masks.refinement.registry import RefinementSettings
from lightcluster.masks.settings import (
    ConsistencySettings,
    ForegroundSettings,
    ReestimationSettings,
    UpsamplingSettings,
)
from lightcluster.regions.settings import LabellingSettings, RegionSettings
from lightcluster.sections import Section


class Fit(Section):
    """The images on which a run is fitted; documented in `registry.FitSettings`."""

    model: Path | None = None


class CommonSections(Section):
    """The sections that all methods have in common."""

    dataset: DatasetSettings = DatasetSettings()
    method: str
    fit: Fit = Fit()
    backbone: BackboneSettings = BackboneSettings()
    features: FeatureSettings = FeatureSettings()
    clustering: ClusteringSettings = ClusteringSettings()
    superclasses: SuperclassSettings = SuperclassSettings()
    foreground: ForegroundSettings = ForegroundSettings()
    consistency: ConsistencySettings = ConsistencySettings()
    reestimation: ReestimationSettings = ReestimationSettings()
    upsampling: UpsamplingSettings = UpsamplingSettings()
    refinement: RefinementSettings = RefinementSettings()
    regions: RegionSettings = RegionSettings()
    labelling: LabellingSettings = LabellingSettings()


HOW = tuple(CommonSections.model_fields)[3:]
"""The sections that determine how images are segmented, but not which images."""
