"""The sections of the configuration that say what is segmented, and how, whatever the method.

They are those of the method of this project, of which others read some; a method may have a section
of its own besides.
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
    """What a run is fitted on; `registry.FitSettings` documents it."""

    model: Path | None = None


class CommonSections(Section):
    """All that methods read, but for the sections of their own."""

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
"""The sections that say how images are segmented, but not which images."""
