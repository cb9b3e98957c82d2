"""What all unit tests share."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from lightcluster.clustering.kmeans import set_threads

# The machine may be busy.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Tiny problems: more threads would only wait for one another."""
    set_threads(1)
