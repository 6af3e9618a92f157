# Each target does the set-up it needs. Everything is built with --release: one profile, so that torch-sys's C++, minutes
# of it, is compiled once.
MAKEFLAGS += --no-print-directory
CARGO_FLAGS := --release --locked
PROGRAMS := $(or $(CARGO_TARGET_DIR),target)/release
export RUST_BACKTRACE ?= 1

# All but what needs Bevy, which takes as long to build as libtorch's bindings.
MEMBERS := --package dgx-pixels --package dgx-pixels-core --package dgx-pixels-manifest --package dgx-pixels-mcp \
	--package dgx-pixels-py

# The object that needs libtorch, and the library linked to it. They are built apart from the programs: cargo gives a
# package the same features in all that is built at once, and the programs' library must have no libtorch.
TORCH := --package dgx-pixels-core --package dgx-pixels-torch \
	--features dgx-pixels-core/torch,dgx-pixels-core/deploy,dgx-pixels-core/fields

# Both at once, so that Bevy is built with one set of features; unoptimised, in a third of the time.
BEVY := --locked --package dgx-pixels-bevy --package bevy_game

# tools/setup.sh judges an outer LIBTORCH; cargo reads the link that it made (.cargo/config.toml).
SETUP := LIBTORCH='$(LIBTORCH)' tools/setup.sh
unexport LIBTORCH LIBTORCH_INCLUDE LIBTORCH_LIB LIBTORCH_STATIC LIBTORCH_USE_PYTORCH LIBTORCH_BYPASS_VERSION_CHECK

.PHONY: help setup setup-test setup-python setup-delivery setup-book setup-counts torch python python-parts wheel demo dist dist-folder image image-push image-merge test test-core test-programs test-torch test-python test-bevy schedules game recording gate-m4 gate-m5 gate-m5-here gate-programs fuzz conformance kills coverage book site check-deploy check-delivery check-advisories check-book check-links check-features check-semver check-linkage check-fmt check-lint check-docs check-release release-notes publish publish-dry-run act bench bench-counts record-counts fixtures

help: ## List the targets
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS="$$(printf '\t')" read -r target text; do \
		printf '%-18s %s\n' "$$target" "$$text"; done

setup: ## Find or install torch 2.11.0 and link it as .torch
	@$(SETUP) build

setup-test: ## The same, with Python and diffusers for the live parity test, and NVIDIA's compiler for kernels
	@$(SETUP) test

setup-python: setup ## The same, with all that building and testing the Python package takes
	@$(SETUP) python

setup-delivery: ## Install the linters of check-delivery into .venv, without torch
	@$(SETUP) delivery

setup-book: ## Install mdBook and a checker of links into .venv, without torch
	@$(SETUP) book

# The version is that of `gungraun` in benches/counts/Cargo.toml.
setup-counts: ## Build gungraun-runner, which bench-counts takes beside valgrind, into .venv
	cargo install --locked --root .venv gungraun-runner@$$(sed -n 's/^gungraun = "=\(.*\)"$$/\1/p' benches/counts/Cargo.toml)

torch: setup ## Build libdgx_pixels_torch.so, which the programs load to draw
	cargo build $(CARGO_FLAGS) $(TORCH) --lib --test two_ways

# All packages are named in every build, so that dependencies have the same features each time and are built once.
demo: torch ## Build the programs, draw a sheet of eight sprites, and say where it is
	cargo build $(CARGO_FLAGS) $(MEMBERS) --bins --example sheet
	$(PROGRAMS)/examples/sheet --seed 1 --output demo/sheet.png
	@echo 'Now draw your own: $(PROGRAMS)/dgx-pixels generate "a purple potion" --seed 7'

dist: torch ## One archive that runs where it is unpacked: programs, libtorch for the CPU, and the embedded model
	cargo build $(CARGO_FLAGS) $(MEMBERS) --bins --example sheet
	scripts/dist.sh $(PROGRAMS) dist

# What an image takes along; the Dockerfile calls it.
dist-folder: torch
	cargo build $(CARGO_FLAGS) $(MEMBERS) --bins
	scripts/dist.sh $(PROGRAMS) dist --folder

# What the wheel takes along besides the native module; dgx-pixels-py/build_backend calls it.
python-parts: torch
	cargo build $(CARGO_FLAGS) $(MEMBERS) --bins

WHEELS := dist/python
python: setup-python ## Build the wheel of the Python package, and install it into .venv
	rm -rf $(WHEELS)
	PATH="$$PWD/.venv/bin:$$PATH" .venv/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(WHEELS) ./dgx-pixels-py
	.venv/bin/python -m pip install --quiet --no-deps --force-reinstall $(WHEELS)/*.whl
	@ls -l $(WHEELS)

wheel: setup setup-delivery ## Build the wheel that is published, named for the oldest Linux that it runs on, into dist/wheels
	rm -rf $(WHEELS)
	PATH="$$PWD/.venv/bin:$$PATH" .venv/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(WHEELS) ./dgx-pixels-py
	tools/delivery/wheel.sh $(WHEELS)/*.whl dist/wheels

IMAGE ?= cpu
image: ## Build the container image IMAGE for this architecture: tools, cpu or cuda. Takes Docker
	tools/delivery/image.sh build $(IMAGE)

image-push: # images.yml calls it, then image-merge
	tools/delivery/image.sh push $(IMAGE)

image-merge:
	tools/delivery/image.sh merge $(IMAGE)

test: test-torch test-programs test-python ## All tests but those of the Bevy plugin (make test-bevy)

schedules: ## A thousand schedules of the threads of a job, the journal and the writers, with shuttle
	RUSTFLAGS='--cfg shuttle' cargo test --locked --package dgx-pixels-core --features engine \
		--target-dir target/shuttle --lib schedules

# Leaves out the tests that need the object; `make test-programs` runs them.
NO_OBJECT := -- --skip with_the_object_
test-core: ## The library without libtorch, and the manifest: quick where libtorch is not built yet
	cargo test $(CARGO_FLAGS) --package dgx-pixels-core --package dgx-pixels-manifest \
		--features dgx-pixels-core/deploy,dgx-pixels-core/fields $(NO_OBJECT)

# Without Python 3.11 there is no diffusers to compare with, and the set-up has said so.
LIVE = $$(ls .venv/has-tests-* >/dev/null 2>&1 || echo -- --skip live_)

test-torch: setup-test torch ## The library linked to libtorch, and the loaded object beside it; with parity against diffusers
	cargo test $(CARGO_FLAGS) $(TORCH) $(LIVE)

test-programs: setup-test torch ## The programs, which load the object, and the library without libtorch
	cargo test $(CARGO_FLAGS) $(MEMBERS) $(LIVE)

test-python: python ## The Python package as it is installed: its tests, types and examples
	tools/test_python.sh

test-bevy: ## The Bevy plugin and the example game
	cargo test $(BEVY)

game: ## Play the example game
	cargo run --locked --package bevy_game

recording: demo setup-book ## Record docs/images/prompt-to-game.gif: a prompt, its sprite, and the game that shows it; takes Bevy
	cargo build $(BEVY) --bins --test it
	.venv/bin/python tools/docs/recording.py docs/images/prompt-to-game.gif --programs $(PROGRAMS) \
		--game $(or $(CARGO_TARGET_DIR),target)/debug

gate-m4: ## From prompt to play: the real server, the real game, a line for each criterion
	scripts/check_integration_m4_gate.sh

gate-m5: ## In production: metrics, alerts, dashboards and containers, a line for each criterion; takes Docker
	scripts/check_integration_m5_gate.sh

# The script ends with 3 if no criterion is missed and some cannot be measured on this machine.
gate-m5-here:
	scripts/check_integration_m5_gate.sh || [ $$? = 3 ]

# A test is built beside the programs: cargo then gives dependencies the features that tests have, and builds nothing twice.
gate-programs: # What the gate runs; it calls this itself
	@$(SETUP) gate
	$(MAKE) torch
	cargo build $(CARGO_FLAGS) $(MEMBERS) --bins --test reference
	cargo build $(BEVY) $(GAME_PROFILE) --bins --test it

FUZZ_SECONDS ?= 20
fuzz: ## Every fuzz target for FUZZ_SECONDS each, 20 if not said; takes nightly Rust and cargo-fuzz
	cargo +nightly fuzz build --sanitizer none
	for target in fuzz/fuzz_targets/*.rs; do \
		target=$$(basename $$target .rs); work=$$(mktemp -d); \
		cargo +nightly fuzz run --sanitizer none $$target $$work fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=1024 -timeout=10 || exit; \
		rm -r $$work; \
	done

conformance: torch ## The MCP server against the protocol's conformance suite and Inspector; takes npm
	tools/mcp_conformance.sh

KILLS ?= 1000

kills: ## Servers, batches and deploys, each killed KILLS times: nothing is lost, doubled or torn; takes no libtorch
	DGX_PIXELS_KILLS=$(KILLS) cargo test $(CARGO_FLAGS) $(MEMBERS) --test engine -- --nocapture kills::
	DGX_PIXELS_KILLS=$(KILLS) cargo test $(CARGO_FLAGS) $(MEMBERS) --test it -- --nocapture killed

coverage: ## The lines that the library's tests reach, into dist/coverage.lcov; takes cargo-llvm-cov
	mkdir -p dist
	cargo llvm-cov test --locked --no-report --package dgx-pixels-core --package dgx-pixels-manifest \
		--features dgx-pixels-core/deploy,dgx-pixels-core/fields,dgx-pixels-core/monitor,dgx-pixels-core/telemetry \
		$(NO_OBJECT)
	cargo llvm-cov report --lcov --output-path dist/coverage.lcov
	cargo llvm-cov report --summary-only

check-deploy: setup-python ## Prometheus' rules and alerts, routes, dashboards: run on a real load; takes Prometheus and Alertmanager
	.venv/bin/python -m pip install --quiet --requirement tools/monitoring/requirements.txt
	.venv/bin/python tools/monitoring/check.py

check-delivery: setup-delivery ## Workflows, scripts, Dockerfiles, Python, spelling, dependencies, versions and packages
	tools/delivery/check.sh

# Python's standard library is enough.
check-book: ## The book has every flag, exit code, metric, alert, environment variable and page
	python3 tools/docs/reference.py --check --programs $(PROGRAMS)

check-links: setup-book ## The book builds, and no link in it or in the Markdown files is broken
	$(MAKE) book
	.venv/bin/lychee --offline --include-fragments --no-progress --quiet --exclude-path site/404.html \
		'site/**/*.html' 'docs/**/*.md' ./*.md

book: ## Build the book into site; takes mdBook
	@PATH="$$PWD/.venv/bin:$$PATH"; command -v mdbook >/dev/null || { \
		echo 'found no `mdbook`; install it: make setup-book' >&2; exit 1; }
	rm -rf site
	PATH="$$PWD/.venv/bin:$$PATH" mdbook build docs --dest-dir "$$PWD/site"

# The crates that others depend on, with the features that docs.rs documents: `doc-only` is for what needs libtorch. The
# crates that need Bevy are left out, and so is what an earlier `cargo doc` left. They are documented one after another,
# because rustdoc links to another crate only if that has its pages already.
DOC_FEATURES := dgx-pixels-core/deploy,dgx-pixels-core/fields,dgx-pixels-core/monitor,dgx-pixels-core/telemetry,dgx-pixels-core/doc-only
DOCS := $(or $(CARGO_TARGET_DIR),target)/doc
site: setup-book book ## Build the book into site, and the documentation of the Rust crates and the Python package beside it
	rm -rf $(DOCS)
	for package in dgx-pixels-manifest 'dgx-pixels-core --features $(DOC_FEATURES)' 'dgx-pixels-mcp --features $(DOC_FEATURES)'; do \
		RUSTDOCFLAGS="--deny warnings" cargo doc $(CARGO_FLAGS) --lib --no-deps --package $$package || exit; \
	done
	cp -r $(DOCS) site/api
	echo '<!doctype html><title>Rust crates</title><meta http-equiv="refresh" content="0; url=dgx_pixels_core/index.html">' \
		>site/api/index.html
	tools/docs/python_api.sh site/python

check-advisories: setup-delivery ## The dependencies against the advisories of RustSec; takes the network
	PATH="$$PWD/.venv/bin:$$PATH" cargo deny --locked check advisories

check-features: setup setup-delivery ## Every pair of the library's features compiles
	PATH="$$PWD/.venv/bin:$$PATH" cargo hack check $(CARGO_FLAGS) --package dgx-pixels-core --feature-powerset --depth 2

check-semver: ## The libraries have changed as far as their version says, since the last release or the commit SINCE; takes cargo-semver-checks
	tools/delivery/semver.sh $(SINCE)

check-linkage: ## The built programs need no libtorch, and every library that they need is found
	@for program in dgx-pixels dgx-pixels-mcp; do \
		libraries=$$(ldd $(PROGRAMS)/$$program | sed 's/ (0x.*//') || exit; \
		if echo "$$libraries" | grep -e 'not found' -e torch -e c10; then echo "$$program must not need these"; exit 1; fi; \
	done

check-release: ## The version is the same in every file, and in TAG if it is given
	python3 tools/delivery/release.py check $(TAG)

release-notes: ## The section of CHANGELOG.md for this version, into dist/notes.md
	@mkdir -p dist
	python3 tools/delivery/release.py notes >dist/notes.md

# `cargo publish` sorts the crates by their dependencies. Crates that need Bevy or libtorch are packed and not built.
PUBLISHED := --workspace --exclude bevy_game --exclude dgx-pixels-py
publish-dry-run: ## Pack every crate, and build the packages that need neither Bevy nor libtorch
	cargo package --locked --package dgx-pixels --package dgx-pixels-core --package dgx-pixels-manifest --package dgx-pixels-mcp
	cargo publish --locked --dry-run --no-verify $(PUBLISHED)

publish: # release.yml calls it when a tag is pushed
	cargo publish --locked --no-verify $(PUBLISHED)

act: ## Run every job of the workflows on this machine without building; ACT has other arguments for act. Takes act
	tools/delivery/act.sh $(ACT)

check-fmt: ## Formatting
	cargo fmt --all --check

check-lint: setup ## clippy, with libtorch and without
	cargo clippy $(CARGO_FLAGS) $(MEMBERS) --all-targets -- --deny warnings
	cargo clippy $(CARGO_FLAGS) $(TORCH) --all-targets -- --deny warnings
	for features in '' engine deploy; do \
		cargo clippy $(CARGO_FLAGS) --package dgx-pixels-core --features "$$features" -- --deny warnings || exit; \
	done
	cargo clippy $(BEVY) --all-targets -- --deny warnings
	cargo clippy $(BEVY) --all-targets --no-default-features -- --deny warnings

check-docs: setup ## The library's documentation
	RUSTDOCFLAGS="--deny warnings" cargo doc $(CARGO_FLAGS) $(MEMBERS) --no-deps
	RUSTDOCFLAGS="--deny warnings" cargo doc $(CARGO_FLAGS) $(TORCH) --no-deps

bench: torch ## The three stages of a request, each alone, the pixel stages, and what the engine itself takes
	cargo bench --locked --bench stages --bench pixel --bench engine

bench-counts: ## The instructions of pixel stages, queue and plans against the baseline; takes valgrind, no libtorch
	PATH="$$PWD/.venv/bin:$$PATH" python3 tools/delivery/counts.py check

record-counts: ## Write the instructions of this checkout as the baseline
	PATH="$$PWD/.venv/bin:$$PATH" python3 tools/delivery/counts.py record

fixtures: setup-test ## Make the parity fixtures anew
	for script in tests/fixtures/make_*.py tests/fixtures/schedulers/make_*.py; do .venv/bin/python $$script || exit; done
