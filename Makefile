# Two commands matter: `make demo` and `make test`. Both end by themselves or on Ctrl-C, leave no
# process behind, and can be run again.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
TOLLGATE := $(TARGET)/debug/tollgate

.PHONY: help demo test campaign

help:
	@echo "make demo      a running Tollgate with an example API, plans, keys and traffic (Ctrl-C ends it)"
	@echo "               DEMO_ARGUMENTS=\"--for 30s --no-traffic\" are passed on"
	@echo "make test      everything that must pass, installing what the tests need"
	@echo "make campaign  the heavy runs, an hour and more (optimised build); RUNS=\"kill9 load\" names some"

demo:
	@tools/prerequisites.sh build
	@cargo build --locked --package tollgate --bin tollgate
	@exec $(TOLLGATE) demo $(DEMO_ARGUMENTS)

test:
	@tools/prerequisites.sh test
	@cargo xtask ci

campaign:
	@tools/prerequisites.sh campaign
	@cargo xtask campaign $(RUNS)
