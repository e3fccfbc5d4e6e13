# Everything a fresh machine needs: `make sweep` (the main job) and `make test`. Both set up what they use.
VENV   ?= .venv
PYTHON ?= python3
PY     := $(VENV)/bin/python
READY  := $(VENV)/.installed
SPACE  ?= search_spaces/augment.yaml

.PHONY: sweep report ui test test-slow test-browser check docs format install clean

sweep: $(READY)          ## run a search space (SPACE=...); continues one that was interrupted
	$(PY) -m harness.sweep $(SPACE) $(if $(wildcard results/runs/$(basename $(notdir $(SPACE)))/space.yaml),--resume)

report: $(READY)         ## print the leaderboard again
	$(PY) -m harness.report results/runs/$(basename $(notdir $(SPACE)))

ui: $(READY)             ## open the MLflow UI on what has been recorded
	@$(PY) -m harness.tracking links results/runs
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(VENV)/bin/mlflow ui --backend-store-uri sqlite:///results/runs/mlflow.db

test: $(READY)           ## the fast tests
	$(PY) -m pytest -m "not slow and not gpu" -n 2 --dist loadfile --durations 15

test-slow: $(READY)      ## the long tests
	$(PY) -m pytest -m slow

test-browser: $(READY)   ## the tests of the report page in Chromium, which is installed where that is possible
	@command -v chromium chromium-browser google-chrome >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium; } || \
	  { echo "Chromium is missing: install it, on Debian with apt-get install chromium"; exit 1; }
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[browser,test]"
	$(PY) -m pytest -m browser

check: $(READY)          ## lint, format, types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(READY)           ## build docs/_build/html; a warning is an error
	$(PY) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

format: $(READY)         ## let ruff format and fix
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

install: $(READY)        ## only set up

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV) || { echo "the venv module is missing: on Debian, apt-get install python3-venv"; exit 1; }
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test,docs]"
	touch $(READY)

clean:                   ## remove the environment; results stay
	rm -rf $(VENV)
