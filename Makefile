# Every target makes .venv itself when it is missing or its lists have changed.
PYTHON ?= python3
VENV := .venv/.installed

.PHONY: demo test test-long lint docs bench clean need-name

# Rendered hands unless DATA names a folder of images, laid out SIGNER/LABEL/IMAGE.
demo: $(VENV)  ## make demo [DATA=FOLDER] [ARGS='--search.trials 40']
ifdef DATA
	.venv/bin/python -m sign_ensemble.tune --data.root "$(DATA)" $(ARGS)
else
	.venv/bin/python -m sign_ensemble.synthesize --out runs/demo-signs --size 256x192 --images-per-label 5 --ood-per-set 30
	.venv/bin/python -m sign_ensemble.tune --config configs/demo.yaml $(ARGS)
endif

# Three at a time on two cores: much of a test of the whole is waiting for processes to start.
PYTEST := .venv/bin/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder

test: $(VENV)  ## make test [ARGS='-k rejection']
	$(PYTEST) -m "not long" $(ARGS)

test-long: $(VENV)  ## the others: runs that are killed or lose nodes, minutes each
	$(PYTEST) -m long $(ARGS)

lint: $(VENV)
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m mypy sign_ensemble tests $(wildcard benchmarks/*.py)

docs: $(VENV)  ## docs/ as a site in build/docs, no network needed
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict

bench: need-name $(VENV)  ## make bench NAME=protocol_m [ARGS=...]
	.venv/bin/python "benchmarks/$(NAME).py" $(ARGS)

clean:  ## keeps runs/
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find sign_ensemble tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

need-name:
	@test -f "benchmarks/$(NAME).py" || { echo "name a file of benchmarks/ without .py: make bench NAME=protocol_m" >&2; exit 2; }

$(VENV): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@
