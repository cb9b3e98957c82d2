"""The configuration: typed sections, defaults, and every mistake reported at once.

Each section is declared in the folder of what it is about, in `settings.py`; here they are put
together. `config/README.md` and `workflow/schemas/config.schema.json` are generated from these
models (``make docs``); a test fails when they drift apart.
"""

from lightcluster.config.configuration import (
    Config,
    FitSettings,
    describe_type,
    lookup,
    nest,
    put_over,
    walk_keys,
)
from lightcluster.config.grid import SHARED_SECTIONS, expand_grid
from lightcluster.config.runs import DEFAULT_RUN, parse_config

__all__ = [
    "DEFAULT_RUN",
    "SHARED_SECTIONS",
    "Config",
    "FitSettings",
    "describe_type",
    "expand_grid",
    "lookup",
    "nest",
    "parse_config",
    "put_over",
    "walk_keys",
]
