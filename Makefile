# make run and make test are all that is needed; `make help` tells the rest.

SHELL := /bin/bash
PREFIX ?= /usr/local
DESTDIR ?=
PROGRAM := target/release/voicebridge
DOC := $(DESTDIR)$(PREFIX)/share/doc/voicebridge
CARGO ?= cargo

.PHONY: help run test fuzz quality contract tsan compare audit build install

help: ## what there is
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

run: ## install what is missing, build, start a node with a demo meeting, tell how to call it
	@scripts/install-deps
	@$(CARGO) build --release --locked
	@scripts/run-demo

test: ## everything: format, lints (benches too), documentation, all tests
	@scripts/install-test-deps
	$(CARGO) fmt --check
	$(CARGO) clippy --release --locked --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --release --locked --no-deps
	$(CARGO) test --release --locked

tsan: ## the engine's threads under the thread sanitizer (needs a nightly toolchain; see scripts/tsan)
	@scripts/tsan

quality: ## concealment rated by PESQ and STOI (the first time needs a network, for two Python packages)
	@scripts/quality

contract: ## the API held against its own OpenAPI document, as each role, by schemathesis (the first time needs a network)
	@scripts/install-deps
	$(CARGO) build --release --locked
	@scripts/contract

compare: ## measure beside Asterisk and Janus, on a quiet machine; OPTIONS='--quick', '--only NAME', '--write docs', '--help'
	@. scripts/packages && install_packages janus || true
	$(CARGO) bench --locked --bench compare -- $(or $(OPTIONS),--full)

audit: ## licences, bans and sources of the dependencies (needs cargo-deny)
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	  $(CARGO) deny check licenses bans sources; \
	else \
	  echo "cargo-deny is not installed; get it with: cargo install --locked cargo-deny" >&2; exit 1; \
	fi

build: ## the program in release
	@scripts/install-deps
	$(CARGO) build --release --locked

install: ## into PREFIX (/usr/local), below DESTDIR; build first
	@test -x $(PROGRAM) || { echo "$(PROGRAM) is missing: run 'make build' first" >&2; exit 1; }
	install -D -m 755 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/voicebridge
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's#/usr/local/#$(PREFIX)/#' deploy/voicebridge.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/voicebridge.service
	chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/voicebridge.service
	install -D -m 644 deploy/voicebridge.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/voicebridge.conf
	install -D -m 644 deploy/voicebridge.toml $(DOC)/voicebridge.toml
	test -e $(DESTDIR)/etc/voicebridge/voicebridge.toml || \
	  install -D -m 644 deploy/voicebridge.toml $(DESTDIR)/etc/voicebridge/voicebridge.toml
	install -m 644 README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE $(DOC)
	install -D -m 644 -t $(DOC)/docs docs/*
	install -D -m 644 -t $(DOC)/asterisk asterisk/*
	install -D -m 644 -t $(DOC)/dialplans dialplans/*

fuzz: ## fuzz one reader for SECONDS (60); TARGET is one of fuzz/fuzz_targets (needs cargo-fuzz: cargo install cargo-fuzz)
	@test -n "$(TARGET)" || { ls fuzz/fuzz_targets | sed 's/\.rs$$//'; echo "say TARGET=..." >&2; exit 1; }
	cd fuzz && nice -n 19 cargo fuzz run -s none $(TARGET) -- -max_total_time=$(or $(SECONDS),60) -timeout=5 -rss_limit_mb=2048
