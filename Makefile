# make demo   a first evaluation, from nothing to a table
# make test   every test
# make check  style and types
# make bench  speed and memory, printed
# make train-nano  models/emu2-nano from nothing but the easy-vqa package; can be stopped and resumed

VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin

.PHONY: help demo test check bench train-nano wheel clean
help:
	@sed -n 's/^# //p' Makefile

# $(call install,EXTRAS): into the virtual environment, with uv where it is there, else with pip.
# uv does not read pip's settings, so a folder of local wheels is handed on to it.
define install
	@if command -v uv >/dev/null 2>&1; then \
		set -e; export UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}"; \
		[ -n "$$UV_FIND_LINKS" ] || unset UV_FIND_LINKS; \
		[ -x $(BIN)/python ] || uv venv --quiet --python $(PYTHON) $(VENV); \
		echo "installing emu2eval$(1) with uv …"; \
		uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt -e '.$(1)'; \
	else \
		set -e; [ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV); \
		echo "installing emu2eval$(1) with pip (a minute or two; uv would take seconds) …"; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.$(1)'; \
	fi
endef

$(VENV)/.core: pyproject.toml constraints.txt
	$(call install,)
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	$(call install,[dev])
	@touch $@ $(VENV)/.core

demo: $(VENV)/.core
	@$(BIN)/emu2eval run --task easy-vqa --model most-common nearest --shots 0 2 4 8

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n 2

check: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(VENV)/.dev
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

train-nano: $(VENV)/.dev
	@$(BIN)/python models/emu2-nano/train

wheel: $(VENV)/.dev
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache

# The picture in the README, drawn from the stored runs of `make demo`.
results/demo.svg: $(VENV)/.core
	@$(BIN)/python -c "from emu2eval.report import runs, table; from rich.console import Console; \
	c = Console(record=True, width=112, file=open('/dev/null', 'w')); \
	c.print(table.rich_table(table.order([runs.rows(f)[0] for f in runs.find([])]))); \
	c.save_svg('$@', title='make demo')"
