# `make run`: installs everything and runs the demo.  `make test`: all tests except thorough ones.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= $(shell nproc 2>/dev/null || echo 2)

# Temporary files of tests are kept in memory if there is room, because disks are slow.
export PYTEST_DEBUG_TEMPROOT := $(shell df -k --output=avail /dev/shm 2>/dev/null | awk 'NR == 2 && $$1 > 4000000 { print "/dev/shm" }')

.PHONY: run test test-all test-cluster test-readers lint docs pictures site lock clean

run: $(VENV)/.installed
	$(BIN)/lightcluster run --cores $(CORES)

# All tests of a file run in one worker, which shares their set-up; tests/conftest.py sets the order of files.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.installed-dev
	$(PYTEST) -m "not thorough" tests/unit tests/workflow

test-all: $(VENV)/.installed-dev  ## all tests except those on SLURM
	$(PYTEST) tests/unit tests/workflow

test-cluster: $(VENV)/.installed-dev  ## tests on a SLURM cluster of two nodes, started here; needs root
	$(BIN)/python -m pytest tests/cluster

test-readers:  ## reads exports with the tools that they are for, in a separate environment
	test -x $(VENV)-readers/bin/python || $(PYTHON) -m venv $(VENV)-readers
	$(VENV)-readers/bin/python -m pip install --quiet --constraint tests/readers/constraints.txt --editable '.[readers]'
	test -x $(VENV)-label-studio/bin/python || $(PYTHON) -m venv $(VENV)-label-studio
	$(VENV)-label-studio/bin/python -m pip install --quiet 'label-studio>=1.23,<2'
	LABEL_STUDIO=$(abspath $(VENV)-label-studio/bin/label-studio) $(VENV)-readers/bin/python -m pytest tests/readers

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

docs: $(VENV)/.installed-docs  ## generated documentation, and the site
	$(BIN)/python -m lightcluster.docs
	$(BIN)/python -m lightcluster.model_list
	$(MAKE) site

pictures: $(VENV)/.installed-dev run  ## screenshots of report and gallery in docs/assets; needs Chromium
	$(BIN)/python docs/pictures.py

site: $(VENV)/.installed-docs  ## site/index.html; broken links are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Open site/index.html or, to search it: python3 -m http.server --directory site"

lock: $(VENV)/bin/python  ## envs/lock.txt: the tested version of every package, with its hashes
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet pyproject.toml --extra heic --extra geo --extra parquet --universal \
	  --constraint constraints.txt --generate-hashes --no-annotate --python-version 3.11 \
	  --custom-compile-command "make lock" --output-file envs/lock.txt

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "LightCluster needs Python 3.11 or newer, found " + sys.version.split()[0] + "; try: make PYTHON=python3.12")'
	@command -v cc >/dev/null || command -v gcc >/dev/null || { echo "A C compiler is needed to build pydensecrf2; e.g. apt-get install gcc g++ python3-dev"; exit 1; }
	@echo "Installing into $(VENV): about 1 GB, some minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
# The sources of pydensecrf2 hold C++ that Cython made for Python up to 3.12. For later versions, it is made anew.
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info >= (3, 13))' || { \
	  $(BIN)/python -m pip install --quiet 'cython>=3.1,<4' setuptools wheel && \
	  CYTHON_FORCE_REGEN=1 $(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation pydensecrf2; }

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(VENV)/.installed $@

$(VENV)/.installed-docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) $(VENV)-readers $(VENV)-label-studio results site .snakemake
