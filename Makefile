# make demo   a first evaluation, from nothing to a table and few-shot curves
# make test   every test that is quick enough for each change
# make test-slow   the others
# make check  style and types
# make docs   the site of the documentation, into site/
# make bench  speed and memory, printed: each promise as a ratio; ONLY="load planning" and QUICK=1 for less
# make reference   the reference runs of emu2-nano, from nothing
# make tables  results/tables from the published numbers and the reference runs
# make train-nano  models/emu2-nano from nothing but the easy-vqa package; can be stopped and resumed

VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin

DEMO   := --task easy-vqa easy-vqa-binding --model most-common nearest emu2-nano --shots 0 1 2 4 8
comma  := ,

.PHONY: help demo test test-slow install check style types bench train-nano reference tables images docs wheel clean
help:
	@sed -n 's/^# make /make /p' Makefile

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

$(VENV)/.demo: pyproject.toml constraints.txt
	$(call install,[emu2$(comma)plots])
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	$(call install,[dev])
	@touch $@ $(VENV)/.demo $(VENV)/.docs

$(VENV)/.docs: pyproject.toml constraints.txt
	$(call install,[docs])
	@touch $@

demo: $(VENV)/.demo
	@$(BIN)/emu2eval run $(DEMO) --limit 1000
	@$(BIN)/emu2eval curves --file results/runs/curves.svg

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: $(VENV)/.dev
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

install: $(VENV)/.dev

check: style types

style: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.dev
	@$(BIN)/mypy

docs: $(VENV)/.docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/index.html"

bench: $(VENV)/.dev
	@$(BIN)/python benchmarks $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick)

tables: $(VENV)/.dev
	@$(BIN)/python -c "from pathlib import Path; from emu2eval.report.committed import write; \
	write(Path('results/reference'), Path('results/tables'))"

train-nano: $(VENV)/.dev
	@$(BIN)/python models/emu2-nano/train

wheel: $(VENV)/.dev
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache

# Every figure of emu2-nano's model card, a command each, kept in results/reference: `make reference` repeats
# them all, `emu2eval repeat` says what differs.
NANO := --model emu2-nano --out .cache/reference
reference: $(VENV)/.demo
	$(BIN)/emu2eval run $(NANO) --task easy-vqa --protocol emu2 --shots 0 4
	$(BIN)/emu2eval run $(NANO) --task easy-vqa-binding --shots 0 1 2 3 8 16
	$(BIN)/emu2eval run $(NANO) --task easy-vqa-binding --shots 8 --ablate labels blank
	$(BIN)/emu2eval run $(NANO) --task easy-vqa-binding --split shapes --shots 8 16
	$(BIN)/emu2eval run $(NANO) --task easy-vqa-binding --split objects --shots 8
	$(BIN)/emu2eval run $(NANO) --task easy-vqa-operator --shots 0 1 4
	$(BIN)/emu2eval run $(NANO) --task easy-vqa-draw --shots 0 --judge emu2-nano
	$(BIN)/emu2eval run $(NANO) --task easy-vqa-draw-names --shots 0 1 4
	$(BIN)/emu2eval run $(NANO) --task easy-vqa-draw-names --split three --shots 6
	$(BIN)/emu2eval run $(NANO) --task easy-vqa-autoencode
	$(BIN)/emu2eval run --model emu2-nano-early-1 emu2-nano-early-2 emu2-nano-early-3 --out .cache/reference \
		--task easy-vqa-binding --shots 0 8
	$(BIN)/emu2eval run --model most-common nearest --out .cache/reference --task easy-vqa-binding --shots 8
	$(BIN)/emu2eval keep .cache/reference

# The images in the README: what `make demo` prints and draws, and drawings of emu2-nano.
images: $(VENV)/.dev demo
	@$(BIN)/python -c "from emu2eval.report import blocks; from emu2eval.runs import locate; \
	from emu2eval.runs.scores import read_rows; from rich.console import Console; \
	rows = [read_rows(f)[0] for f in locate.find(['easy-vqa_', 'easy-vqa-binding_'])]; \
	c = Console(record=True, width=90, file=open('/dev/null', 'w')); \
	c.print(blocks.tables(blocks.blocks(rows))); c.save_svg('results/demo.svg', title='make demo')"
	@$(BIN)/emu2eval curves easy-vqa_ easy-vqa-binding_ --file results/curves.svg
	@$(BIN)/emu2eval run --task easy-vqa-draw --shots 0
	@$(BIN)/emu2eval run --task easy-vqa-draw-names --shots 4
	@$(BIN)/emu2eval sheet easy-vqa-draw_0-shot_emu2-nano --most 24 --file results/drawings.png
	@$(BIN)/emu2eval sheet easy-vqa-draw-names_4-shot_emu2-nano --most 10 --file results/drawn-names.png
