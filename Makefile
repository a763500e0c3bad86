# `make` alone prints what there is. DESTDIR and PREFIX work as usual: make install DESTDIR=/tmp/root PREFIX=/usr
# BINARY names the program to install: make install BINARY=target/x86_64-unknown-linux-musl/release/plexcache

PREFIX = /usr/local
BINARY = $(or $(CARGO_TARGET_DIR),target)/release/plexcache

bindir  = $(PREFIX)/bin
datadir = $(PREFIX)/share
mandir  = $(datadir)/man
docdir  = $(datadir)/doc/plexcache
unitdir = $(PREFIX)/lib/systemd/system
bashdir = $(datadir)/bash-completion/completions
fishdir = $(datadir)/fish/vendor_completions.d
# zsh looks into vendor-completions below /usr only (Debian); other systems: zshdir=/usr/share/zsh/site-functions
zshdir  = $(datadir)/zsh/$(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)

pages    = $(sort $(wildcard man/*.1 man/*.5 man/*.7))
examples = $(wildcard examples/config.toml examples/crontab examples/unraid-user-script.sh)
# Where each page goes: man/plexcache.toml.5 -> man5/plexcache.toml.5
page_to  = man$(subst .,,$(suffix $(1)))/$(notdir $(1))

.PHONY: help check build static bench test-fs test-faults test-mutants fuzz fuzz-short demo docs install uninstall

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

check: ## everything a change must pass: format, lints, tests, documentation
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	cargo test --locked
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked

build: ## the program, optimised, for this machine
	cargo build --release --locked

static: ## the program as one static file for any x86_64 Linux (musl)
	packaging/static.sh

# In a mount namespace of its own: whatever a killed run leaves mounted goes with it.
test-fs: ## tests on real file systems and mounts; needs root
	unshare --mount sh -ec 'before=$$(findmnt -rno TARGET); \
		cargo test --locked --lib --test filesystems -- --ignored --test-threads=1; \
		[ "$$(findmnt -rno TARGET)" = "$$before" ] || { echo "something is still mounted:"; findmnt; exit 1; }'

test-faults: ## tests that kill and fail at every changing call, none left out (cargo test takes a stride of them)
	PLEXCACHE_FAULT_STRIDE=1 cargo test --locked --test faults

test-mutants: ## breaks the product on purpose, one rule at a time, and sees whether a test notices
	tests/mutants/run

# BENCH: --quick, and the parts to run (big roomy paced lanes pages small noop units history start); BENCH_SIZE=2GiB and
# BENCH_ROUNDS=3 change the work, BENCH_DIR says where the files go.
bench: ## plexcache beside rsync, rclone, cp, xcp and Python, on this machine: make bench BENCH="--quick big"
	cargo bench --locked --bench bench -- $(BENCH)

# Coverage for libFuzzer on the stable toolchain; needs a C++ compiler. What is found stays in fuzz/artifacts.
fuzzers    = plex_answer plex_tv config history paths
fuzz_flags = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Ccodegen-units=1 --cfg fuzzing
fuzz_host  = $(shell rustc -vV | sed -n 's/^host: //p')
# Quick, and with what the tests have: overflows panic.
fuzz_env   = CARGO_PROFILE_DEV_OPT_LEVEL=2 CARGO_PROFILE_DEV_DEBUG=1 RUSTFLAGS="$(fuzz_flags)"
fuzz_built = $(or $(CARGO_TARGET_DIR),target)/fuzz/$(fuzz_host)/debug
SECONDS    = 300

fuzz: ## feeds the parsers what a fuzzer thinks of: make fuzz SECONDS=3600, so long for each
	$(fuzz_env) cargo build --locked --package plexcache-fuzz --target $(fuzz_host) \
		--target-dir "$(or $(CARGO_TARGET_DIR),target)/fuzz"
	for name in $(fuzzers); do \
		mkdir -p fuzz/corpus/$$name fuzz/artifacts && \
		$(fuzz_built)/$$name -max_total_time=$(SECONDS) -max_len=16384 -timeout=10 -rss_limit_mb=1024 \
			-verbosity=0 -print_final_stats=1 -artifact_prefix=fuzz/artifacts/$$name- \
			fuzz/corpus/$$name fuzz/seeds/$$name || exit 1; \
	done

fuzz-short: ## the same for 20 seconds each
	$(MAKE) fuzz SECONDS=20

demo: ## the main job, shown on a throw-away library with a stand-in Plex
	cargo run --release --locked --example demo

docs: ## writes man/ and completions/ anew from the command line's definition
	UPDATE=1 cargo test --locked --test generated

install: ## program, man pages, completions, systemd units and examples; run `make build` first
	install -D -m 755 "$(BINARY)" "$(DESTDIR)$(bindir)/plexcache"
	$(foreach page,$(pages),install -D -m 644 $(page) "$(DESTDIR)$(mandir)/$(call page_to,$(page))" &&) true
	install -D -m 644 completions/plexcache.bash "$(DESTDIR)$(bashdir)/plexcache"
	install -D -m 644 completions/_plexcache "$(DESTDIR)$(zshdir)/_plexcache"
	install -D -m 644 completions/plexcache.fish "$(DESTDIR)$(fishdir)/plexcache.fish"
	install -d "$(DESTDIR)$(unitdir)"
	sed 's|/usr/bin/plexcache|$(bindir)/plexcache|' packaging/systemd/plexcache.service > "$(DESTDIR)$(unitdir)/plexcache.service"
	chmod 644 "$(DESTDIR)$(unitdir)/plexcache.service"
	install -m 644 packaging/systemd/plexcache.timer "$(DESTDIR)$(unitdir)/plexcache.timer"
	install -D -m 644 -t "$(DESTDIR)$(docdir)" LICENSE
	install -D -m 644 -t "$(DESTDIR)$(docdir)/examples" $(examples)

uninstall: ## takes away what install put there; configuration, state and media stay
	rm -f "$(DESTDIR)$(bindir)/plexcache"
	rm -f $(foreach page,$(pages),"$(DESTDIR)$(mandir)/$(call page_to,$(page))")
	rm -f "$(DESTDIR)$(bashdir)/plexcache" "$(DESTDIR)$(zshdir)/_plexcache" "$(DESTDIR)$(fishdir)/plexcache.fish"
	rm -f "$(DESTDIR)$(unitdir)/plexcache.service" "$(DESTDIR)$(unitdir)/plexcache.timer"
	rm -f "$(DESTDIR)$(docdir)/LICENSE" $(foreach file,$(notdir $(examples)),"$(DESTDIR)$(docdir)/examples/$(file)")
	rmdir "$(DESTDIR)$(docdir)/examples" "$(DESTDIR)$(docdir)" 2>/dev/null || true
