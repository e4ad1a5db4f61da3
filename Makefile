# Two commands matter: `make demo` and `make test`. Both end by themselves or on Ctrl-C, leave no
# process behind, and can be run again.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
TOLLGATE := $(TARGET)/debug/tollgate

# What the heavier runs are set to; each can be given on the command line.
TOLLGATE_KILL9_CYCLES ?= 30
TOLLGATE_ATTEMPTS ?= 500000
TOLLGATE_LOAD_SECONDS ?= 60
TOLLGATE_LOAD_CONNECTIONS ?= 1000
TOLLGATE_LOAD_RATE ?= 1000
TOLLGATE_SIM_SEEDS ?= 1000
TOLLGATE_SIM_STEPS ?= 10000

.PHONY: help demo test campaign

help:
	@echo "make demo      a running Tollgate with an example API, plans, keys and traffic (Ctrl-C ends it)"
	@echo "               DEMO_ARGUMENTS=\"--for 30s --no-traffic\" are passed on"
	@echo "make test      everything that must pass, installing what the tests need"
	@echo "make campaign  the heavy runs: 30 kill -9 cycles, 500 000 attempts, 60 s of load (optimised build)"

demo:
	@tools/prerequisites.sh build
	@cargo build --locked --package tollgate --bin tollgate
	@exec $(TOLLGATE) demo $(DEMO_ARGUMENTS)

test:
	@tools/prerequisites.sh test
	@cargo xtask ci

campaign:
	@tools/prerequisites.sh test
	@TOLLGATE_KILL9_CYCLES=$(TOLLGATE_KILL9_CYCLES) \
	TOLLGATE_ATTEMPTS=$(TOLLGATE_ATTEMPTS) \
	TOLLGATE_LOAD_SECONDS=$(TOLLGATE_LOAD_SECONDS) \
	TOLLGATE_LOAD_CONNECTIONS=$(TOLLGATE_LOAD_CONNECTIONS) \
	TOLLGATE_LOAD_RATE=$(TOLLGATE_LOAD_RATE) \
	cargo test --release --locked --package tollgate \
		--test exact_limits --test kill9 --test load -- --nocapture --test-threads=1
	@TOLLGATE_SIM_SEEDS=$(TOLLGATE_SIM_SEEDS) TOLLGATE_SIM_STEPS=$(TOLLGATE_SIM_STEPS) \
	cargo test --profile campaign --locked --package tollgate-simulator \
		--test seeds no_seed -- --nocapture
