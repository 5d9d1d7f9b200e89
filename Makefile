# Everything below sets up what it needs, in .venv. Nothing but Python and make has to be there; with a Python that
# is not called python3: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What runs, from requirements.lock; and with it the developers' tools, from requirements-dev.lock.
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready
LOCKS := requirements.lock requirements-dev.lock
# Files of the whole project, for the tools that want to be told.
SOURCES := exportd tests benchmarks
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

# Python keeps what it has compiled, whatever the shell says: a run of the tests starts it hundreds of times, and each
# would compile exportd anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	  || sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(INSTALLED) ## Export from a temporary Postgres into demo-run/, then show the console until Ctrl-C
	$(BIN)/exportd demo --dir demo-run

# Three processes share the tests between them, for many tests wait for a daemon or a disk; each has servers of its own.
# A process that has nothing left to do takes over half of what another still has.
JOBS := 3
PYTEST := -m pytest --numprocesses=$(JOBS) --dist=worksteal
JOURNEY := tests/acceptance/test_journey.py::test_a_first_run_is_complete_and_later_ones_hold_what_changed

# With COVERAGE=1 the branches that the tests reach are measured, in the processes that they start too.
# It fails below the floor that pyproject.toml names (fail_under). Afterwards `coverage html` shows what no test reached.
.PHONY: test
test: $(READY) ## Run every test (needs no Postgres of yours; 25 minutes on 2 cores); COVERAGE=1 measures them
ifdef COVERAGE
	$(BIN)/coverage erase
	$(BIN)/coverage run $(PYTEST)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --sort=cover
else
	$(BIN)/python $(PYTEST)
endif

.PHONY: quick
quick: $(READY) ## Run the unit tests, the architecture's and a row's journey on a real Postgres (a minute)
	$(BIN)/python $(PYTEST) tests/unit $(sort $(wildcard tests/test_*.py)) $(JOURNEY)

.PHONY: unit
unit: $(READY) ## Run the tests that need no database (seconds)
	$(BIN)/python -m pytest tests/unit tests/test_architecture.py

.PHONY: strangers
strangers: $(READY) ## Let strangers misbehave for two minutes while tenants export; prints figures (three minutes)
	EXPORTD_TEST_STRANGERS_S=120 $(BIN)/python -m pytest --capture=no tests/acceptance/test_strangers.py

.PHONY: systemd-test
systemd-test: $(READY) ## Boot a real systemd in a container and install exportd there (needs root; a minute)
	EXPORTD_TEST_SYSTEMD=1 $(BIN)/python -m pytest -m systemd_boot tests/systemd

.PHONY: ready
ready: $(READY) ## Install what tests and checks need, and do nothing else

.PHONY: check
check: $(READY) ## Check format, lint rules, types and the lock files; change nothing
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	@if grep -n -i -E 'https?:|--index|--find-links|--trusted-host|://' $(LOCKS); then \
	  echo 'a lock file names a host: make it again with "make lock"' >&2; exit 1; fi

.PHONY: fmt
fmt: $(READY) ## Format the code and mend what the linter can mend
	$(BIN)/ruff check --fix-only $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

.PHONY: docs
docs: $(READY) ## Write the pages of docs/ that are made from the code
	$(BIN)/python -m tests.tools.write_documents
	EXPORTD_WRITE_DOCUMENTS=1 $(BIN)/python -m pytest -q tests/acceptance/test_capture_sample.py

.PHONY: screenshots
screenshots: $(READY) ## Take the pictures of the console that the README shows (needs Chromium; two minutes)
	$(BIN)/python -m tests.tools.take_screenshots

.PHONY: bench
bench: $(READY) ## Run the benchmarks; figures go to benchmarks/results.json
	$(BIN)/python -m benchmarks

# The versions in the lock files stay as they are unless pyproject.toml asks for others; UPGRADE=--upgrade renews all.
# What runs comes first, and the developers' tools have to get along with it.
COMPILE := UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links
.PHONY: lock
lock: $(READY) ## Write both lock files anew from pyproject.toml (UPGRADE=--upgrade for newer versions)
	$(PIP) install --quiet uv
	$(COMPILE) $(UPGRADE) --extra embedded --extra replay --extra build --output-file requirements.lock pyproject.toml
	$(COMPILE) $(UPGRADE) --all-extras --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml

.PHONY: clean
clean: ## Remove everything that was made here
	rm -rf $(VENV) demo-run dist htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Touched last, so that an installation that was interrupted is done again. The project itself is installed without
# build isolation: its build tool comes from the lock file too.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'Python 3.11 or newer is needed; say which one: make PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo 'Python cannot make virtual environments: install python3-venv (Debian, Ubuntu)' >&2; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo 'Installing exportd and what it runs on into $(VENV): about 290 MB, a minute or two, once.'
	$(PIP) install --use-pep517 --require-hashes --requirement requirements.lock
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(READY): requirements-dev.lock $(INSTALLED)
	@echo 'Installing the tools of developers into $(VENV): about 1.4 GB more, once.'
	$(PIP) install --use-pep517 --require-hashes --requirement requirements-dev.lock
	@touch $@
