# revstep's daily commands. Each needs Python 3.11+, a C++ compiler and a package index, no more:
# the first one makes an environment in $(VENV) and installs the package into it.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
PYTEST_ARGS ?=
DEMO_ARGS ?=

BIN := $(VENV)/bin
PYTEST = OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile
# TensorRT-RTX builds engines without a GPU, and the tests do.
EXTRAS := cpu,openvino,export,images,bench,serve,ray,tensorrt-rtx,test,dev,docs
# A Triton server for its tests; never imported, and its own requirements would hold numpy below 2.
TRITON_SERVER := nvidia-pytriton>=0.7,<0.8
SOURCES := $(shell find src engine kernels export bench serve -type f \
	\( -name '*.py' -o -name '*.pyi' -o -name '*.cpp' -o -name '*.h' -o -name '*.cu' \
	-o -name '*.html' -o -name '*.js' -o -name '*.css' \) 2>/dev/null)

# Tests must see the installed package, never a checkout on the path.
unexport PYTHONPATH
export PYTHONSAFEPATH := 1
# revstep turns its libraries' telemetry off when it is imported; this is for what imports them alone.
export ORT_DISABLE_TELEMETRY ?= 1
export HF_HUB_DISABLE_TELEMETRY ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export NO_MKDOCS_2_WARNING := 1

.PHONY: help env demo test test-all lint docs bench tables bench-check bench-record wheel clean

help:
	@echo 'make demo          sample the bundled Fashion-MNIST denoiser, into demo-output/'
	@echo 'make test          the fast tests, against the installed package'
	@echo 'make test-all      the slow tests too'
	@echo 'make lint          ruff, formatting, mypy --strict, import contracts, hadolint'
	@echo 'make docs          the documentation as a site in build/site/, which needs no network'
	@echo 'make bench         small questions of speed beside baselines, and the bundled denoiser'
	@echo 'make tables        every table and plot of the pages anew, from committed rows'
	@echo 'make bench-check   figures that must not grow: instructions, calls, modules, sizes'
	@echo 'make bench-record  commit the present ones, on purpose'
	@echo 'make wheel         a wheel in dist/'
	@echo 'make clean         remove $(VENV), build/ and dist/'
	@echo
	@echo 'Variables: PYTHON=$(PYTHON) VENV=$(VENV) WORKERS=$(WORKERS) PYTEST_ARGS= DEMO_ARGS='
	@echo "torch comes from your pip's index. Where that is a CUDA build of several GB, point pip at"
	@echo "PyTorch's CPU index first, with pip's own settings (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL)."

env: $(VENV)/.revstep-package

# torch goes in first and alone: a CPU build that is there then satisfies every later requirement.
$(VENV)/.revstep-torch:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "revstep needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version 2>&1`." \
			"Name another: make PYTHON=python3.12" >&2; exit 1; }
	@echo '== 1/2: environment in $(VENV), and torch'
	$(PYTHON) -m venv --clear $(VENV) || { \
		echo 'No venv module? On Debian: apt-get install python3-venv' >&2; exit 1; }
	$(BIN)/python -m pip install 'torch>=2.11,<2.14'
	@touch $@

$(VENV)/.revstep-package: $(VENV)/.revstep-torch pyproject.toml CMakeLists.txt README.md $(SOURCES)
	@echo '== 2/2: revstep with its native kernels, and what its tests need'
	REVSTEP_REQUIRE_NATIVE=1 $(BIN)/python -m pip install '.[$(EXTRAS)]'
	$(BIN)/python -m pip install --no-deps '$(TRITON_SERVER)'
	$(BIN)/python -m pip install --no-deps --only-binary :all: --upgrade \
		--target $(VENV)/triton-numpy 'numpy<2' || echo 'No NumPy 1 here: its tests skip.'
	@touch $@

demo: env
	$(BIN)/revstep demo $(DEMO_ARGS)

test: env
	$(PYTEST) -m 'not slow' $(PYTEST_ARGS)

test-all: env
	$(PYTEST) $(PYTEST_ARGS)

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/*.Dockerfile

docs: env
	$(BIN)/mkdocs build --strict
	@echo 'open build/site/index.html'

BENCH := build/bench/fashion_mnist_unet.revstep
BENCH_ARGS ?= --output build/bench/questions.jsonl

bench: env
	PYTHONSAFEPATH= $(BIN)/python -m suites.questions.measure $(BENCH_ARGS)
	@mkdir -p $(dir $(BENCH))
	$(BIN)/revstep export --diffusers examples/fashion_mnist_unet --null-class 10 \
		-o $(BENCH) --overwrite
	$(BIN)/revstep compile $(BENCH)
	$(BIN)/revstep bench $(BENCH) --guidance 1.5

tables: env
	PYTHONSAFEPATH= $(BIN)/python -m suites.pages
	PYTHONSAFEPATH= $(BIN)/python -m proofs --only page
	PYTHONPATH=tests/support $(BIN)/python -m zoo --page

# Of a wheel of its own: dist/ may hold older ones.
REGRESSIONS = PYTHONSAFEPATH= $(BIN)/python -m suites.regressions --wheel build/bench-check/*.whl

build/bench-check: env
	rm -rf $@
	REVSTEP_REQUIRE_NATIVE=1 $(BIN)/python -m pip wheel -q --no-deps -w $@ .

.PHONY: build/bench-check

bench-check: build/bench-check
	$(REGRESSIONS)

bench-record: build/bench-check
	$(REGRESSIONS) --record

wheel: env
	REVSTEP_REQUIRE_NATIVE=1 $(BIN)/python -m pip wheel --no-deps -w dist .

clean:
	rm -rf $(VENV) build dist
