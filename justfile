# `just` lists the recipes. scripts/test and .ci/run work without just.

# All recipes
default:
    @just --list --unsorted

# Format, lints, all tests: what CI runs
test:
    scripts/test

# The fast inner loop: Rust tests whose name holds FILTER, without polars and object stores
quick FILTER="":
    cargo nextest run --no-default-features --features cli {{FILTER}}

# Rewrite the sources in the house format
fmt:
    cargo fmt --all

# Lints as CI sees them
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# The library's documentation, warnings are errors
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked

# Benchmarks (criterion); NAME chooses
bench NAME="":
    cargo bench --locked -- {{NAME}}

# Write the fixtures anew (see fixtures/README.md)
fixtures *ARGS:
    python3 fixtures/make.py {{ARGS}}

# Write schemas/ from the code
schemas:
    cargo run --locked --quiet -- schema --write schemas

# README command 1 and 2, as a fresh machine runs them
ci:
    .ci/run
