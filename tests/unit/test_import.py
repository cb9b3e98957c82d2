"""Importing the package leaves the program that does so as it was."""

from __future__ import annotations

import subprocess
import sys

import pytest

GLOBALS = """
import importlib, os, pkgutil, signal, warnings
import numpy, torch
from PIL import Image, ImageFile

def state():
    return {
        "environment": dict(os.environ),
        "bomb guard": Image.MAX_IMAGE_PIXELS,
        "truncated images": ImageFile.LOAD_TRUNCATED_IMAGES,
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "numpy": numpy.geterr(),
        "threads": torch.get_num_threads(),
        "matrix products": torch.get_float32_matmul_precision(),
        "folder": os.getcwd(),
    }


import faiss, matplotlib, skimage, zarr  # what libraries do when they are imported is theirs
import torch._dynamo

before = state()
import lightcluster
names = [
    module.name for module in pkgutil.walk_packages(lightcluster.__path__, "lightcluster.")
    if not module.name.endswith("__main__")
]
for name in names:
    importlib.import_module(name)
after = state()
assert before == after, {key: after[key] for key in before if before[key] != after[key]}
print(len(names))
"""


@pytest.mark.thorough
def test_importing_every_module_changes_no_global():
    done = subprocess.run([sys.executable, "-c", GLOBALS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 80
