# Every target makes .venv itself when it is missing or its lists have changed.
PYTHON ?= python3
VENV := .venv/.installed

.PHONY: demo test lint bench clean need-data need-name

demo: need-data $(VENV)  ## make demo DATA=FOLDER [ARGS='--search.trials 40']
	.venv/bin/python -m sign_ensemble.tune --data.root "$(DATA)" $(ARGS)

test: $(VENV)  ## make test [ARGS='-k rejection']
	.venv/bin/python -m pytest -q $(ARGS)

lint: $(VENV)
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m mypy sign_ensemble tests $(wildcard benchmarks/*.py)

bench: need-name $(VENV)  ## make bench NAME=protocol_m [ARGS=...]
	.venv/bin/python "benchmarks/$(NAME).py" $(ARGS)

clean:  ## keeps runs/
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find sign_ensemble tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

need-data:
	@test -n "$(DATA)" || { echo "give the folder of images, laid out SIGNER/LABEL/IMAGE: make demo DATA=FOLDER" >&2; exit 2; }

need-name:
	@test -f "benchmarks/$(NAME).py" || { echo "name a file of benchmarks/ without .py: make bench NAME=protocol_m" >&2; exit 2; }

$(VENV): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@
