# The doors of the project. `make run` and `make test` need nothing before them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed

.PHONY: help install run demo test check bench fuzz format requirements clean

help:            ## list these doors
	@grep -hE '^[a-z]+: .*##|^[a-z]+: *##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

install: $(READY)  ## make .venv with the program and its tools

$(READY): requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=/path/to/python3") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

run: $(READY)      ## run the proxy: CONFIG=FILE, or without one in front of a demo mailbox
	$(BIN)/pop3-sync-proxy $(if $(CONFIG),serve --config "$(CONFIG)",demo)

demo: $(READY)     ## play two devices against a demo mailbox and show what each one got
	$(BIN)/pop3-sync-proxy demo --play

test: $(READY)     ## run all tests
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

check: $(READY)    ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)    ## measure; prints ratios and numbers
	$(BIN)/python -m tests.bench

fuzz: $(READY)     ## fuzz: TARGET=server_machine, sasl_layer or proxy_header, RUNS=1000000
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/fuzz.txt
	$(BIN)/python -m tests.fuzz $(or $(TARGET),server_machine) --runs $(or $(RUNS),1000000)

format: $(READY)   ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

requirements:    ## pin all dependencies anew, with hashes (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links -o requirements/run.txt pyproject.toml
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --group build -o requirements/build.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --group dev -o requirements/dev.txt pyproject.toml
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --group fuzz -o requirements/fuzz.txt

clean:           ## remove what the other doors made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
