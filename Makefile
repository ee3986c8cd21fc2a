# Every target sets up what it needs: a Python 3.10 or newer is enough to begin with.
VENV := .venv
PY := $(VENV)/bin/python
# Where it is set, each of the thousand processes that the tests start compiles all code again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test system-test system-test-long check coverage docs news lint format types bench venv dev pyz man clean

help:
	@echo 'make demo         a tunnel on this machine: web server, middle and two ends, with what each sees'
	@echo 'make test         every check that a change must pass: lint, types, all tests'
	@echo 'make system-test  two firewalled networks in namespaces; needs root (system-test-long: more of it)'
	@echo 'make coverage     how much of wire/ and core/ their own tests reach: at least 98 %'
	@echo 'make news         is there a news fragment for what has changed since main?'
	@echo 'make lint         ruff, and its formatter in checking mode'
	@echo 'make format       rewrite the source in the format that lint asks for'
	@echo 'make types        mypy'
	@echo 'make docs         the API reference, in build/api'
	@echo 'make bench        throughput and latency beside ssh, stunnel and haproxy'
	@echo 'make pyz          tunnelkit.pyz: everything in one file, for a machine with nothing but Python'
	@echo 'make man          man pages, in build/man'
	@echo 'make clean        remove everything that these made'

venv:
	@scripts/make-venv

dev:
	@scripts/make-venv dev

demo: venv
	@$(VENV)/bin/tunnelkit demo $(ARGS)

test: dev
	@scripts/install-test-packages
	@$(MAKE) --no-print-directory lint types check

system-test system-test-long: dev
	@[ "$$(id -u)" = 0 ] || { echo 'make $@: run it as root, it makes network namespaces' >&2; exit 2; }
	@scripts/install-test-packages scripts/test-packages scripts/system-test-packages
	$(PY) -m pytest tests/system $(if $(findstring long,$@),,-m 'not long') $(ARGS)

# Most of the time passes in tests that wait for processes; a file's tests stay together, they share what is started.
check: dev
	$(PY) -m pytest --numprocesses 2 --dist loadfile $(ARGS)

coverage: dev
	$(PY) -m coverage run -m pytest tests/wire tests/core $(ARGS)
	$(PY) -m coverage report

docs: dev
	$(PY) -m pydoctor --quiet
	@echo 'see build/api/index.html'

news: dev
	$(PY) -m towncrier check --compare-with $(or $(SINCE),origin/main)

lint: dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: dev
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: dev
	$(PY) -m mypy

bench: dev
	$(PY) -m bench.whole_job $(ARGS)

pyz: venv
	$(PY) scripts/make-pyz

man: venv
	$(PY) scripts/make-man-pages build/man

clean:
	rm -rf $(VENV) tunnelkit.pyz build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .tox .coverage* _trial_temp*
	find tunnelkit tests twisted scripts -name __pycache__ -prune -exec rm -rf {} +
