# Targets: setup, demo, test, lint. Needs python3.11, make and git. Debian packs python's venv module
# separately; set-up installs that package if it may, and otherwise says so.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Set-up is done again whenever what it depends on has changed since.
STAMP := $(VENV)/.setup-done

.PHONY: setup demo test lint

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || \
		{ echo "$(PYTHON) is not installed (Debian: apt install python3.11 python3.11-venv)"; exit 1; }
	@$(PYTHON) -c "import venv, ensurepip" 2>/dev/null || \
		{ [ "$$(id -u)" = 0 ] && apt-get update && apt-get install --yes python3.11-venv; } || \
		{ echo "$(PYTHON) has no venv module (Debian: apt install python3.11-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@

# A photograph that matplotlib brings along crosses a fading channel.
demo: setup
	$(BIN)/sscc link "$$($(BIN)/python -c 'from matplotlib.cbook import get_sample_data as path; \
		print(path("grace_hopper.jpg", asfileobj=False))')" \
		--channel rayleigh --doppler 50 --snr 15 --mcs qpsk-1/2 --seed 1 --output out

test: setup
	$(BIN)/python -m pytest -n auto --dist loadscope

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
