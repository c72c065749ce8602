# Every target that needs the environment first runs `install`, so any of them works in a fresh clone. Needs Python 3.11
# or later; PYTHON=python3.12 selects another interpreter than python3.

PYTHON ?= python3
# Processes that run the tests: three for two cores, because some tests wait for processes of their own.
JOBS ?= 3
# A process that runs out of tests takes over others'. By default each keeps the twelfth of all tests that it starts with,
# and the first twelfth has nearly all tests of commands, so one process works long after the others.
PARALLEL = --numprocesses=$(JOBS) --dist=worksteal

# The files with tests of compiled models: collecting all the others takes as long as running these.
COMPILE = $$(grep -rl --include="test_*.py" pytest.mark.compile tests)

# CPU=1 installs PyTorch without CUDA, from the index that PyTorch has for it, or from TORCH_INDEX. An environment keeps
# its build: CPU= changes back.
INSTALLED_CPU := $(shell cat .venv/installed 2>/dev/null)
CPU ?= $(INSTALLED_CPU)
TORCH_INDEX ?=
CUDA_PACKAGES = ^(torch|torchvision|triton|(cuda|nvidia)-[a-z0-9-]+)==

BIN := .venv/bin
# Each of the many processes that tests start would otherwise compile PyTorch's sources again.
unexport PYTHONDONTWRITEBYTECODE
UV_VERSION := 0.13.9
# The uv on the PATH where there is one that runs, else one of the project's own.
UV := $(or $(shell uv --version >/dev/null 2>&1 && command -v uv),.uv/bin/uv)

.PHONY: help install demo test test-slow test-fast check chaos audit bench lock clean
ifneq ($(CPU),$(INSTALLED_CPU))
.PHONY: .venv/installed
endif

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: .venv/installed ## build .venv from requirements.lock, with Vitral in it (CPU=1: without CUDA)

# A demo never writes to an earlier one's folder: runs/demo, runs/demo-2, runs/demo-3 ...
demo: RUN := $(shell run=runs/demo; n=1; while [ -e $$run ]; do n=$$((n + 1)); run=runs/demo-$$n; done; echo $$run)
demo: install ## train a Vision Transformer on images of digits, then draw what it looks at
	$(BIN)/vitral train digits --out $(RUN)
	$(BIN)/vitral inspect $(RUN)

# The shape checks would break the graph of a compiled model, so tests of compiled models run separately.
test: install ## run the tests (those that need a GPU are skipped where there is none)
	$(BIN)/pytest $(PARALLEL)
	$(BIN)/pytest $(PARALLEL) --jaxtyping-packages= -m "compile and not slow" $(COMPILE)

test-slow: install ## run the tests that make test leaves out; CI runs them too
	$(BIN)/pytest $(PARALLEL) -m "slow and not compile"
	$(BIN)/pytest $(PARALLEL) --jaxtyping-packages= -m "slow and compile" $(COMPILE)

# Without the shape checks, and without the tests of whole runs, of tables, of data sets' files and of pictures.
LONG = recipes datasets inspection studies suites sweeps test_variants.py train/test_fit.py train/test_target_runs.py \
    train/profiling data/images/test_memory.py test_sklearn.py
test-fast: install ## run the quick tests: between commits
	$(BIN)/pytest $(PARALLEL) --jaxtyping-packages= -m "not slow and not compile" \
	    $(addprefix --ignore=tests/unit/,$(LONG)) tests/unit tests/golden

check: install ## check style and types, and run the contract tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright
	$(BIN)/pytest tests/contracts

# Attacks for CHAOS_MINUTES; CHAOS_SEED repeats an attack, whose seed is printed first.
CHAOS_MINUTES ?= 10
chaos: install ## kill, damage and starve Vitral for ten minutes, and print what broke
	PYTHONPATH=src:tests $(BIN)/python -m chaos --minutes $(CHAOS_MINUTES) $(if $(CHAOS_SEED),--seed $(CHAOS_SEED))

audit: install | $(UV) ## list licences and known vulnerabilities of what is installed
	$(UV) tool run pip-licenses==5.5.5 --python $(BIN)/python --format=markdown
	@$(UV) tool run pip-audit==2.10.1 --strict --disable-pip --require-hashes --requirement requirements.lock || \
	    { echo "a package that is called not found was not checked: mirrors of PyPI list no vulnerabilities" >&2; exit 1; }

bench: install ## run benchmarks/, one after another
	@for file in $(sort $(wildcard benchmarks/*.py)); do echo "$$file"; $(BIN)/python "$$file" || exit 1; done

# Works without an environment, because a new environment starts from the lock file.
lock: | $(UV) ## upgrade requirements.lock
	$(UV) pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
	    --generate-hashes --no-emit-index-url --no-header --quiet --output-file requirements.lock

clean: ## remove everything that make created, except runs/
	rm -rf .venv .uv .pytest_cache .ruff_cache .hypothesis dist

# The stamp comes last, so an install that was cut short is taken up again by the next make.
.venv/installed: requirements.lock pyproject.toml | $(UV)
	@test -x $(BIN)/python || { $(need_python) && rm -rf .venv && $(UV) venv --quiet --python "$(python_path)" .venv; }
	@rm -f $@
	$(if $(CPU),$(install_cpu),$(UV) pip sync --require-hashes --python $(BIN)/python requirements.lock)
	$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@echo $(CPU) > $@

# The locked versions; the hashes of PyTorch are those of the other build, so its own index vouches for this one.
define install_cpu
@awk '/^[a-z]/ { skip = /$(CUDA_PACKAGES)/ } !skip' requirements.lock > .venv/cpu.lock
	$(UV) pip sync --require-hashes --python $(BIN)/python .venv/cpu.lock
	@$(UV) pip install --no-deps --python $(BIN)/python \
	    $(if $(TORCH_INDEX),--default-index "$(TORCH_INDEX)",--torch-backend cpu) \
	    $$(grep -oE '^(torch|torchvision)==[0-9.]+' requirements.lock) || \
	    { echo "no CPU build of PyTorch: name an index that has it with TORCH_INDEX=ADDRESS, or leave out CPU=1" >&2; exit 1; }
endef

# uv goes into a virtual environment of its own, or into a plain folder where Debian left venv out of Python.
.uv/bin/uv:
	@$(need_python)
	@echo "installing uv $(UV_VERSION) into .uv"
	@rm -rf .uv
	@if $(PYTHON) -m venv .uv >/dev/null 2>&1; then \
	    .uv/bin/pip install --quiet --no-cache-dir uv==$(UV_VERSION); \
	elif rm -rf .uv && $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	    $(PYTHON) -m pip install --quiet --no-cache-dir --target .uv uv==$(UV_VERSION); \
	else \
	    echo "this Python has neither venv nor pip: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; \
	fi

need_python = { $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
    { echo "Vitral needs Python 3.11 or later, which '$(PYTHON)' is not: make install PYTHON=python3.12" >&2; exit 1; }; }
python_path = $$($(PYTHON) -c 'import sys; print(sys.executable)')
