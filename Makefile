# The front door. The build behind it is Meson; the scripts behind it are in scripts/.
#
#   make            builds build/release/davit
#   make demo       installs what is needed, builds, brings the model, and shows adapters answering
#   make down       ends what the demo started
#   make test       unit and integration tests
#   make test-property [PLANS=1000000] [SEED=n]
#                   the planner in that many random worlds' plans; a failure names the SEED that repeats it
#   make test-interop
#                   against real peers, a Kubernetes API server among them (built once, ten minutes), and the integration tests
#                   of the controller on it; DAVIT_TEST_KUBECONFIG names another cluster for them; by hand
#   make test-chaos kill -9 of every part in turn under eight streams; by hand, takes minutes
#   make test-churn [SEED=N]
#                   kill -9 of the controller while a thousand adapters come, change and go; by hand, takes minutes
#   make bench-engine
#                   tokens a second of the CPU engine, in-process; by hand
#   make bench-controller [REFERENCE=BINARY] [BENCH="life --adapters 100"]
#                   the controller against fake engines: time, requests, CPU seconds, memory; by hand
#   make bench-artifact [BENCH="--adapters 100"]
#                   fetching a large file and many small adapters, against curl; by hand
#   make lint       format, layers, documents, static analysis
#   make ci         test + sanitizer runs + fuzz corpora + lint
#   make install    to $(PREFIX), default /usr/local
#   make clean

PREFIX ?= /usr/local
BUILD := build/release
SANITIZE := build/sanitize
WERROR ?= --werror

.PHONY: all build demo down test test-property test-interop test-chaos test-churn bench-engine bench-controller bench-artifact sanitize ci lint fuzz install clean

all: build

build: $(BUILD)/build.ninja
	@if [ -t 1 ]; then NINJA_STATUS='    [%f/%t] ' ninja -C $(BUILD) davit; else ninja -C $(BUILD) --quiet davit; fi

$(BUILD)/build.ninja:
	@scripts/install-packages build
	@log=$$(meson setup $(BUILD) $(WERROR) --buildtype=release -Dtests=disabled 2>&1) || { echo "$$log"; exit 1; }

demo:
	@scripts/install-packages build demo
	@echo "==> building $(BUILD)/davit"
	@$(MAKE) --no-print-directory build
	@scripts/demo

down:
	@$(BUILD)/davit down

test:
	@scripts/install-packages build test
	@scripts/run-tests unit integration

test-property:
	@scripts/install-packages build test
	@log=$$(meson setup $(WERROR) --buildtype=release -Dtests=enabled $$(test ! -f $(BUILD)/build.ninja || echo --reconfigure) $(BUILD) 2>&1) \
	    || { echo "$$log"; exit 1; }
	@ninja -C $(BUILD) --quiet tests/unit/test_plan_property
	@PLANS=$(or $(PLANS),1000000) $(BUILD)/tests/unit/test_plan_property

test-chaos:
	@scripts/install-packages build test
	@$(MAKE) --no-print-directory build
	@tests/chaos/run

test-churn:
	@scripts/install-packages build test
	@SEED=$(SEED) scripts/test-churn

bench-engine:
	@$(MAKE) --no-print-directory build
	@ninja -C $(BUILD) --quiet bench/bench_engine
	@model=$$(scripts/fetch-model) && $(BUILD)/bench/bench_engine "$$model" samples/adapters/sql

bench-controller:
	@scripts/install-packages build test
	@scripts/bench-controller $(if $(REFERENCE),--reference $(REFERENCE)) $(BENCH)

bench-artifact:
	@scripts/install-packages build test
	@$(MAKE) --no-print-directory build
	@ninja -C $(BUILD) --quiet bench/artifact/bench_artifact_server
	@venv=$$(scripts/test-venv) && "$$venv/bin/python" bench/artifact/bench.py $(BENCH)

test-interop:
	@scripts/install-packages build interop
	@scripts/run-tests interop

sanitize:
	@scripts/install-packages build test
	@scripts/run-tests sanitize fuzz

lint:
	@scripts/install-packages lint
	@scripts/lint

ci:
	@scripts/install-packages build test lint
	@scripts/run-tests unit integration sanitize fuzz lint

fuzz:
	@scripts/install-packages build fuzz
	@scripts/fuzz

install: build
	@meson install -C $(BUILD) --destdir "$(DESTDIR)" --quiet

clean:
	rm -rf build
