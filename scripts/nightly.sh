#!/usr/bin/env bash
# What is too long for every change: an hour of fuzzing, the sanitizer over all tests of pad-ops at every level of the
# processor, Miri, 200 random and 60 chosen kills of the three trainers, advisories. Each where this machine has the
# tool.
#   scripts/nightly.sh
set -euo pipefail
cd "$(dirname "$0")/.."
stage() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

stage "sanitizer, Miri, fuzzing"
targets=$(grep -c '^\[\[bin\]\]' fuzz/Cargo.toml)
scripts/check-soundness.sh --all $((3600 * $(nproc) / targets))

stage "kills"
scripts/kills.sh 200 60

stage "advisories"
if cargo deny --version >/dev/null 2>&1; then
    # The only part that needs a network.
    cargo deny --locked --log-level error check --hide-inclusion-graph advisories ||
        { echo "error: advisories: see above (without a network: not fetched)"; exit 1; }
else
    echo "-- left out: cargo-deny: it is not installed"
fi

stage "done"
