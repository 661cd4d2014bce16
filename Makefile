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

sample: install  ## draw the sample drawings where photos are looked for
	$(BIN)/menagerie sample

down: install  ## stop them
	$(BIN)/menagerie down

test: install  ## run all tests
	$(BIN)/pytest -m "not slow and not benchmark" -n 2 --dist loadfile --no-loadscope-reorder
	$(BIN)/pytest -m slow  # these take the whole machine

fuzz: install  ## look for new counterexamples to the property tests
	$(BIN)/pytest -m "hypothesis and not slow and not benchmark" --hypothesis-profile=fuzz -n 2

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

screenshots: install  ## renew the README's pictures from a running stack on the drawings (needs Chromium)
	$(BIN)/python docs/screenshots.py

lock: install  ## renew requirements.lock and docker/gpu.lock from pyproject.toml
	$(BIN)/uv pip compile -q --universal --generate-hashes --all-extras --group dev --custom-compile-command "make lock" \
		pyproject.toml -o requirements.lock
	sed -n 's/^tensorflow-cpu\(==[^ ]*\).*/tensorflow[and-cuda]\1/p' requirements.lock \
		| $(BIN)/uv pip compile -q --generate-hashes --no-header --no-annotate --python-version 3.11 \
			--python-platform x86_64-manylinux_2_28 -c requirements.lock - \
		| sed -n '/^\(tensorflow\|nvidia-[^=]*\)\(\[.*\]\)\?==/,/[^\\]$$/p' > docker/gpu.lock

# docker/.env holds the secrets: they are made once.
COMPOSE := docker compose --file docker/compose.yaml --env-file docker/.env $(if $(GPU),--profile gpu)

docker/.env: docker/.env.example
	$(PYTHON) docker/make_env.py

docker-up: docker/.env  ## the cluster in containers: on drawings, or on PHOTOS=folder; WORKERS=2, GPU=1
	$(COMPOSE) build
	$(if $(PHOTOS),MENAGERIE_PHOTOS="$$(realpath -- "$(PHOTOS)")") $(if $(GPU),MENAGERIE_GPU_QUEUE=gpu) \
		$(COMPOSE) up --detach --wait $(if $(WORKERS),--scale worker=$(WORKERS))
	@value() { sed -n "s/^$$1=//p" docker/.env | grep . || echo "$$2"; }; \
	echo "Menagerie is up."; \
	echo "  Airflow  $$(value MENAGERIE_AIRFLOW_PAGE http://127.0.0.1:8080)   user admin, password $$(value AIRFLOW_PASSWORD)"; \
	echo "  MLflow   $$(value MENAGERIE_MLFLOW_PAGE http://127.0.0.1:5000)   user admin, password $$(value MLFLOW_PASSWORD)"

docker-demo: docker/.env  ## run everything in it once; PRESET=standard tries more
	$(COMPOSE) exec -T api-server true || $(MAKE) docker-up
	$(COMPOSE) exec $$([ -t 0 -a -t 1 ] || echo -T) api-server menagerie demo --running $(if $(PRESET),--preset $(PRESET))

docker-down: docker/.env  ## end it; its data stay
	$(COMPOSE) down

clean:  ## remove the environment and everything that runs left behind
	rm -rf .venv var

.PHONY: help install demo up sample down test fuzz check format bench screenshots lock docker-up docker-demo docker-down clean
