# Everything a contributor runs. Each target does its own set-up: all it takes is make and
# Python 3.10 or newer with venv.

PYTHON ?= python3
UV ?= $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
RUN = $(UV) run --frozen

# What uv would otherwise fetch is a Python of its own: the ones that are there are used.
export UV_PYTHON_DOWNLOADS ?= never

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list.
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  \1|/' | column -t -s '|'

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv

.venv/.synced: pyproject.toml uv.lock | $(filter .uv/bin/uv,$(UV))
	test -d .venv || $(UV) venv --quiet --python "$$(command -v $(PYTHON))" .venv
	$(UV) sync --quiet --frozen
	@touch $@

.PHONY: setup
setup: .venv/.synced ## Make .venv with everything the other targets need.

.PHONY: demo
demo: setup ## Run the example shop on the embedded engine and draw the run.
	$(RUN) python examples/shop/demo.py

.PHONY: demo-agent
demo-agent: setup ## Run the example agent, with no key: a scripted model, two tools, an approval.
	$(RUN) python examples/agent/demo.py

.PHONY: pictures
pictures: setup ## Draw the pictures of the front page anew, each from a run.
	$(RUN) python .ci/pictures.py

.PHONY: test
test: setup ## Run the tests, all but the slow ones.
	$(RUN) pytest --numprocesses auto -m "not slow"

.PHONY: test-slow
test-slow: setup ## Run the slow tests: kills, long runs, many requests.
	$(RUN) pytest --numprocesses auto -m slow

.PHONY: coverage
coverage: setup ## Run the tests with branch coverage, and list what no test reaches.
	$(RUN) pytest --numprocesses auto -m "not slow" --cov --cov-report term

.PHONY: test-all
test-all: setup ## Run the tests on every Python from 3.10 that is here, and on the oldest libraries.
	$(RUN) python .ci/matrix.py

.PHONY: test-corners
test-corners: setup ## The two ends of the matrix: oldest Python and libraries, newest Python and libraries.
	$(RUN) python .ci/matrix.py --corners

.PHONY: test-live
test-live: setup ## Run the live suite against the server at INNGEST_DEV_URL.
	$(RUN) pytest -m live tests/live

.PHONY: lint
lint: setup ## Check style.
	$(RUN) ruff check .
	$(RUN) ruff format --check .

.PHONY: types
types: mypy pyright ## Check types, with mypy and with pyright.

.PHONY: mypy
mypy: setup
	$(RUN) mypy

.PHONY: pyright
pyright: setup
	$(RUN) pyright

.PHONY: format
format: setup ## Mend what ruff can mend.
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

.PHONY: bench
bench: setup ## Print the benchmarks.
	$(RUN) python benchmarks/run.py

.PHONY: docs
docs: setup ## Build the documentation site into site/, and follow every link in it.
	NO_MKDOCS_2_WARNING=1 $(UV) run --frozen --group docs mkdocs build --strict
	$(RUN) python .ci/site/check_links.py site /inngest-plugins/

.PHONY: cli-reference
cli-reference: setup ## Write docs/reference/cli.md anew from the program.
	$(RUN) python .ci/cli_reference.py

.PHONY: build
build: setup ## Build the wheel and the sdist into dist/.
	rm -rf dist
	$(UV) build --quiet

.PHONY: check-wheel
check-wheel: build ## Install the wheel in an empty environment and run the demo from outside.
	$(RUN) python .ci/check_wheel.py

.PHONY: clean
clean: ## Remove what the other targets made.
	rm -rf .venv .venv-* .uv dist .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: release
release: setup ## Build and check a release; PUBLISH=1 also uploads it.
	$(RUN) python .ci/release.py $(if $(PUBLISH),--publish)
