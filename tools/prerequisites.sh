#!/usr/bin/env bash
# Installs what building and testing need where it can (Debian or Ubuntu, as root), and otherwise
# names the line that installs it. Called by the Makefile.
#   tools/prerequisites.sh build    Rust, a C compiler
#   tools/prerequisites.sh test     and what the tests run with
#   tools/prerequisites.sh campaign and what the heavy runs break the machine with
set -euo pipefail

purpose=${1:-build}
missing=()

say() { printf 'prerequisites: %s\n' "$*" >&2; }

# need COMMAND PACKAGE: the Debian package that holds the command.
need() {
    command -v "$1" >/dev/null 2>&1 || missing+=("$2")
}

need cc gcc
[ -e /usr/include/stdlib.h ] || command -v clang >/dev/null 2>&1 || missing+=(libc6-dev)
if [ "$purpose" != build ]; then
    need curl curl
    need setpriv util-linux
    need openssl openssl
    # The server's programs are not in PATH on Debian.
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || need initdb postgresql
fi
if [ "$purpose" = campaign ]; then
    need strace strace
    need faketime faketime
    need perl perl
    need python3 python3
    need mkfs.ext4 e2fsprogs
fi

if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing ${missing[*]}"
        apt-get update -q </dev/null >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
            "${missing[@]}" </dev/null >&2
    else
        say "missing: ${missing[*]}; on Debian or Ubuntu install with"
        say "  sudo apt-get install -y ${missing[*]}"
        exit 1
    fi
fi

if ! command -v cargo >/dev/null 2>&1; then
    if [ -x "$HOME/.cargo/bin/cargo" ]; then
        say "cargo is in ~/.cargo/bin, which is not in PATH; run: . ~/.cargo/env"
    else
        say "Rust is missing; install it with"
        say "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
    fi
    exit 1
fi

if [ "$purpose" != build ]; then
    for component in rustfmt clippy; do
        if ! cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1; then
            if command -v rustup >/dev/null 2>&1; then
                rustup component add "$component" >&2
            else
                say "$component is missing; it comes with Rust from https://rustup.rs"
                exit 1
            fi
        fi
    done
    # Its runner starts every test in a process of its own. Without it `cargo test` is used.
    if ! cargo nextest --version >/dev/null 2>&1; then
        say "installing cargo-nextest (some minutes, once)"
        cargo install --locked --quiet cargo-nextest </dev/null >&2 ||
            say "cargo-nextest could not be installed; going on with cargo test"
    fi
fi
