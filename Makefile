# Every line is one that a person could type. `make demo` and `make test` set up what they need.
.PHONY: demo test chaos mutants up down check bench build deploy

# Python 3.10 or newer. Cargo comes with rustup; rust-toolchain.toml says which compiler.
PYTHON ?= python3
# A section of samconfig.toml.
ENV ?= default

SAM := .venv/sam/bin
EMULATOR := .venv/emulator/bin
# cargo-lambda and zig are found beside sam.
export PATH := $(CURDIR)/$(SAM):$(PATH)
export SAM_CLI_TELEMETRY := 0

demo: .venv/sam/ready .venv/emulator/ready .venv/postgres/ready
	cargo run --quiet --package sync-tests --bin demo

test: .venv/sam/ready .venv/emulator/ready .venv/postgres/ready .venv/debezium/ready
	cargo test --workspace

# The same kinds of faults as in `make test`, more often and longer.
chaos: export CHAOS_KILLS ?= 20
chaos: export CHAOS_SEEDS ?= 5
chaos: export CHAOS_CHANGES ?= 30000
chaos: export CHAOS_LETTERS ?= 10000
chaos: export CHAOS_ROWS ?= 200000
chaos: export CHAOS_OVERLAPS ?= 50
chaos: export CHAOS_WHOLE ?= 100000
chaos: .venv/sam/ready .venv/emulator/ready .venv/postgres/ready .venv/debezium/ready
	cargo test --package sync-chaos -- --nocapture

# Wrong designs, one at a time in a copy of the tree; MUTANTS=<part of a name> tries some. `make test` holds that they apply.
mutants: .venv/sam/ready
	cargo run --quiet --package sync-tests --bin mutants

up: .venv/sam/ready .venv/emulator/ready .venv/postgres/ready
	cargo run --quiet --package sync-tests --bin local-stack -- up

down:
	cargo run --quiet --package sync-tests --bin local-stack -- down

check: export AWS_DEFAULT_REGION ?= eu-central-1
check: .venv/sam/ready
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items
	cargo run --quiet --package sync-cli -- validate
	sam validate --lint
	$(SAM)/python infra/local/expand.py template.yaml > target/template.json
	cfn-lint --include-checks I --regions $(AWS_DEFAULT_REGION) -- target/template.json
	if cargo deny --version 2>/dev/null; then cargo deny check; else echo "cargo-deny is not installed: licences and advisories were not checked"; fi

bench: .venv/sam/ready .venv/postgres/ready
	cargo run --quiet --release --package sync-bench

build: .venv/sam/ready
	sam build --config-env $(ENV)

deploy: build
	cargo run --quiet --package sync-cli -- validate
	sam deploy --config-env $(ENV)

# Made again only when the requirements change.
.venv/%/ready: infra/local/%.txt infra/local/%.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, this is " + sys.version)'
	@echo "setting up .venv/$* from infra/local/$*.txt (once, about a minute)"
	$(PYTHON) -m venv --clear .venv/$*
	.venv/$*/bin/pip install --disable-pip-version-check --requirement infra/local/$*.txt
	@touch $@
