"""What all unit tests share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser, sync_playwright

from lightcluster.clustering.kmeans import set_threads

# The machine may be busy.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("sampled", settings.get_profile("patient"), max_examples=25)
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """Let `make test` try fewer examples of each property than `make test-all`."""
    if config.getoption("-m") == "not thorough":
        settings.load_profile("sampled")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Tiny problems: more threads would only wait for one another."""
    set_threads(1)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium without windows; tests that need it are skipped where there is none."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium (apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()
