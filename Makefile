# Two commands do everything: `make app` opens the app, `make test` runs every check.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# As in the app: torch's threads do not spin while they wait, for the browser that is tested needs the cores too.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: app test lint bench pictures docs browser versions clean

app: $(VENV)/app
	$(BIN)/streamlit run explorer/app.py

test: $(VENV)/test browser lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/test browser
	$(BIN)/python -m explorer bench

pictures: $(VENV)/test browser
	$(BIN)/python -m explorer.bench.pictures

docs: $(VENV)/test
	$(BIN)/python -m explorer.bench.reference docs

# The oldest Python with the oldest of every requirement, and the newest with the newest: all checks that need no browser.
OLDEST ?= python3.11
NEWEST ?= python3.13

versions:
	mkdir -p $(VENV)
	sed -E '/^-e/d; s/>=([^,]*).*/==\1/' requirements.txt > $(VENV)/oldest.txt
	$(call checked,$(OLDEST),$(VENV)/oldest,-c $(VENV)/oldest.txt)
	$(call checked,$(NEWEST),$(VENV)/newest,--upgrade)

define checked
	$(1) -m venv $(2)
	$(2)/bin/python -m pip install -q -r requirements.txt -e '.[test]' $(3)
	$(2)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not browser"
endef

# A Chromium that is there is used; else Debian's where apt may install it, else Playwright's own.
browser: $(VENV)/test
	@command -v chromium chromium-browser google-chrome >/dev/null \
	|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	     && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
	|| $(BIN)/python -m playwright install chromium

$(VENV)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.13 …")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/app: requirements.txt pyproject.toml setup.py | $(VENV)/python
	$(BIN)/python -m pip install -q -r requirements.txt
	touch $@

$(VENV)/test: $(VENV)/app
	$(BIN)/python -m pip install -q -r requirements.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) docs .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
