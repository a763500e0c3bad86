#!/bin/bash
# Builds plexcache as one static file for any x86_64 Linux, whatever its C library:
#
#   packaging/static.sh [further arguments for cargo build, for example --offline]
#
# Needs musl-gcc (Debian: musl-tools) and a toolchain that has the musl standard library, or else its
# sources. The toolchains tried are the one in PATH (or $CARGO and $RUSTC) and then that of the system.
# Refuses to end well unless the result is static and starts.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly target=x86_64-unknown-linux-musl
target_dir=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}")
readonly target_dir
readonly binary=$target_dir/$target/release/plexcache

fail() {
    printf 'static.sh: %s\n' "$@" >&2
    exit 1
}

has_musl_std() {
    compgen -G "$("$1" --print target-libdir --target "$target" 2>/dev/null)/libstd-*.rlib" >/dev/null
}

has_std_sources() {
    [[ -f $("$1" --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/std/Cargo.toml ]]
}

# musl-tools has no libunwind, which std asks for by name.
make_unwinder() {
    mkdir -p "$1"
    musl-gcc -O2 -ffreestanding -c packaging/unwinder.c -o "$1/unwinder.o"
    rm -f "$1/libunwind.a"
    ar rc "$1/libunwind.a" "$1/unwinder.o"
}

# Here the size counts: nobody builds this one for the machine that it is to run on.
build() {
    "$CARGO" build --locked --release --config 'profile.release.opt-level="s"' --target "$target" --bin plexcache "$@"
}

build_with_std() {
    local unwinder=$target_dir/unwinder
    make_unwinder "$unwinder"
    # Debian's musl-gcc always starts a program with Scrt1.o, which cannot relocate a static PIE: hence the
    # fixed addresses. RUSTC_BOOTSTRAP lets a stable compiler build its own standard library.
    # A panic ends the program where it is, and no backtrace could name anything in a stripped one; so neither the
    # tables for unwinding nor what std has to read symbols.
    local flags=(-C target-feature=+crt-static -C relocation-model=static -C link-self-contained=no
        -L "native=$unwinder" -C force-unwind-tables=no)
    # The standard library is under everything, so it stays quick; Cargo.toml has "s" for what it does not name.
    local fast=()
    for crate in core alloc std; do
        fast+=(--config "profile.release.package.$crate.opt-level=3")
    done
    RUSTC_BOOTSTRAP=1 \
        CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER=musl-gcc \
        CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && printf '%s' "${flags[*]}") \
        build -Zbuild-std=std,panic_abort -Zbuild-std-features= "${fast[@]}" "$@"
}

# Fails when readelf does, too: an unreadable file is not a static one.
check_static() {
    local headers
    headers=$(readelf --wide --program-headers --dynamic "$binary") || fail "cannot read $binary"
    [[ $headers != *INTERP* ]] || fail "$binary asks for a dynamic loader"
    [[ $headers != *NEEDED* ]] || fail "$binary asks for shared libraries"
    "$binary" --version || fail "$binary does not start"
    # Every error takes a backtrace then, which must not be the end of it.
    local status=0
    RUST_BACKTRACE=1 "$binary" --config /nonexistent/config.toml status 2>/dev/null || status=$?
    ((status > 0 && status < 128)) || fail "$binary dies of an error, or finds none: $status"
}

command -v musl-gcc >/dev/null || fail "musl-gcc is missing; on Debian: apt install musl-tools"
export CC_x86_64_unknown_linux_musl=musl-gcc # for the C and assembly parts of ring

built=
for toolchain in "${CARGO:-cargo} ${RUSTC:-rustc}" "/usr/bin/cargo /usr/bin/rustc"; do
    read -r CARGO RUSTC <<<"$toolchain"
    export CARGO RUSTC
    command -v "$CARGO" "$RUSTC" >/dev/null || continue
    if has_musl_std "$RUSTC"; then
        build "$@"
    elif has_std_sources "$RUSTC"; then
        build_with_std "$@"
    else
        continue
    fi
    built=yes
    break
done
[[ $built ]] || fail "no toolchain here has the standard library for $target" \
    "with rustup: rustup target add $target" \
    "on Debian 12: apt install rustc-web cargo-web rust-web-src (builds it from source)"

check_static
printf '%s: static, %s\n' "$binary" "$(stat --format=%s "$binary" | numfmt --to=iec-i --suffix=B)"
