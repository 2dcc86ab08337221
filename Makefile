# make demo   set everything up, draw sample street images, anonymise them, and say where to look
# make test   set everything up, then lint, types, layers and tests, as CI does
# make check  the same without the slow tests, in under a minute

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MODELS := $(VENV)/.models

.DEFAULT_GOAL := help
.PHONY: help setup demo picture test check lint types layers unit postgis browser wheel docs lock benchmark clean

help:
	@sed -n 's/^# make/make/p' Makefile

setup: $(READY) $(MODELS)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' || \
		{ echo "anonymise needs Python 3.10 to 3.13; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq python3-venv; } || \
		{ echo "Python's venv module is missing; install it with: sudo apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

$(MODELS): $(READY) models/catalog.yml
	$(BIN)/python -m script.fetch_models
	@touch $(MODELS)

demo: setup
	$(BIN)/python -m samples demo/in
	$(BIN)/python -m anonymise -i demo/in -o demo/out -l demo/logs -k config/lite_config.yml \
		--set force_remask=True --set remote_preview=True --set remote_mask=True \
		--set remote_instances=True --set keep_doubtful=True
	$(BIN)/python -m samples demo/in_360 --count 0 --pano
	$(BIN)/python -m anonymise -i demo/in_360 -o demo/out_360 -l demo/logs \
		-k config/360_lite_config.yml --set force_remask=True --set remote_mask=True
	$(BIN)/python -m samples.demo demo/before_after.jpg demo/in demo/out demo/in_360 demo/out_360
	$(BIN)/python -m anonymise sheet -o demo/out -k config/lite_config.yml

# The pictures in the README and in docs/corrections.md.
picture: setup
	$(BIN)/python -m samples demo/picture_in --count 2 --size 1280x720 --seed 3
	$(BIN)/python -m anonymise -i demo/picture_in -o demo/picture_out -k config/lite_config.yml --set force_remask=True
	$(BIN)/python -m samples.demo docs/before_after.jpg demo/picture_in demo/picture_out
	$(BIN)/python -m samples.corrections docs/corrections.jpg

test: setup lint types layers unit

check: setup lint types layers
	$(BIN)/python -m pytest -n 2 -m "not slow" -q

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy --strict

layers: $(READY)
	$(BIN)/lint-imports

unit: setup postgis browser
	$(BIN)/python -m pytest -n 2 --dist loadfile

# The database tests start a PostgreSQL server of their own, from Debian's packages.
POSTGIS := $(firstword $(wildcard /usr/share/postgresql/*/extension/postgis.control))

postgis:
ifeq ($(POSTGIS),)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql postgresql-15-postgis-3; \
	else \
		echo "PostGIS is missing and may not be installed here: THE POSTGIS TESTS WILL BE SKIPPED"; \
		echo "  sudo apt-get install postgresql postgresql-15-postgis-3"; \
	fi
endif

# The pages are tested in Debian's Chromium; playwright would download a browser of its own.
CHROMIUM := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

browser:
ifeq ($(CHROMIUM),)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; \
	else \
		echo "Chromium is missing and may not be installed here: THE TESTS OF THE PAGES WILL BE SKIPPED"; \
		echo "  sudo apt-get install chromium"; \
	fi
endif

benchmark: setup
	$(BIN)/python -m benchmarks.throughput

wheel: $(READY)
	$(BIN)/python -m build --wheel --no-isolation

# After a change of a key of the configuration.
docs: $(READY)
	$(BIN)/python -m anonymise.config.reference docs/configuration.md

# After a change of the dependencies in pyproject.toml; writes hashes but no registry's address.
lock:
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet uv
	$(VENV)/lock/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.10 \
		--generate-hashes --no-header --quiet --upgrade --output-file requirements.lock

clean:
	rm -rf $(VENV) demo dist build
