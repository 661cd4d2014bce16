SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

# uv comes through pip, at the version and hashes of the lock, and then installs the rest.
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes -r <(sed -n '/^uv==/,/[^\\]$$/p' requirements.lock)
	VIRTUAL_ENV=.venv UV_COMPILE_BYTECODE=1 $(BIN)/uv pip install -q --require-hashes -r requirements.lock
	VIRTUAL_ENV=.venv $(BIN)/uv pip install -q --no-deps --no-build-isolation -e .
	@touch $@

install: .venv/installed  ## make .venv from the lock

demo: install  ## run everything once: on drawings, or on PHOTOS=folder; PRESET=standard tries more
	$(BIN)/menagerie demo $(if $(PHOTOS),--photos "$(PHOTOS)") $(if $(PRESET),--preset $(PRESET))

up: install  ## start Airflow and MLflow, on PHOTOS=folder if given
	$(if $(PHOTOS),MENAGERIE_PHOTOS="$(PHOTOS)") $(BIN)/menagerie up

down: install  ## stop them
	$(BIN)/menagerie down

test: install  ## run all tests
	$(BIN)/pytest

check: install  ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install  ## run the benchmarks: ratios measured side by side
	$(BIN)/pytest tests -m benchmark -s

lock: install  ## renew requirements.lock from pyproject.toml
	$(BIN)/uv pip compile -q --universal --generate-hashes --all-extras --group dev --custom-compile-command "make lock" \
		pyproject.toml -o requirements.lock

COMPOSE := docker compose --file docker/compose.yaml

docker-up: PHOTOS ?= $(MENAGERIE_PHOTOS)
docker-up:  ## the stack in a container: on drawings, or on PHOTOS=folder
	$(COMPOSE) build
	$(if $(PHOTOS),,$(COMPOSE) run --rm menagerie sample /data/drawings)
	MENAGERIE_PHOTOS="$(if $(PHOTOS),$$(realpath -- "$(PHOTOS)"))" $(COMPOSE) up --detach --wait
	$(COMPOSE) logs --no-log-prefix --tail 5

docker-down:  ## end it; its data stay
	$(COMPOSE) down

clean:  ## remove the environment and everything that runs left behind
	rm -rf .venv var

.PHONY: help install demo up down test check format bench lock docker-up docker-down clean
