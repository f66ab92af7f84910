# Two commands do everything: `make quickstart` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
MINUTES ?= 5

.PHONY: fuzz help install install-dev quickstart quickstart-vqa quickstart-gqa quickstart-nlvr2 report-picture test lint clean

help:  ## list the commands
	@grep -E '^[a-z0-9 -]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

install: $(VENV)/.installed  ## create .venv and install what training and evaluation need

install-dev: $(VENV)/.installed-dev  ## the same and what the tests need

$(VENV)/.installed: requirements.txt requirements-common.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

quickstart: install  ## generate scenes, train a small model on the CPU, evaluate it, write a report page
	$(BIN)/python tools/quickstart.py

quickstart-vqa quickstart-gqa quickstart-nlvr2: quickstart-%: quickstart  ## then learn to answer questions about the scenes
	$(BIN)/python tools/quickstart_tasks.py $*

report-picture: install  ## draw the README's picture of quickstart/report.html (needs chromium)
	$(BIN)/python docs/report_picture.py

test: install-dev lint  ## install everything and run all checks
	$(BIN)/python -m pytest

fuzz: install-dev  ## feed damaged files to every reader for some minutes (MINUTES=5)
	$(BIN)/python tests/fuzz/fuzz_readers.py --minutes $(MINUTES)

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:  ## remove what the commands above made
	rm -rf $(VENV) quickstart
