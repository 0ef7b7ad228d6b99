#!/usr/bin/env bash
# Type-checks the feature `metal` on any machine: no Apple hardware, no Apple toolchain. Nothing is linked and nothing runs,
# and Metal's own shaders are compiled at run time only.
#
# On Apple systems plain `cargo check --features metal` does the same and this script calls it. Elsewhere objc2 refuses to
# build for lack of an Objective-C runtime, unless told of GNUstep's, and objc2-metal names a framework that only Apple's
# linker knows; a crate around ours says the one and patches the other.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
if [ "$(uname)" = Darwin ]; then
    exec cargo check --locked -p pad-ir --features metal
fi
version=$(sed -n '/^name = "objc2-metal"$/{n;s/version = "\(.*\)"/\1/p}' Cargo.lock)
[ -n "$version" ] || { echo "error: no objc2-metal in Cargo.lock" >&2; exit 1; }
cargo fetch --locked --quiet
source=$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/objc2-metal-"$version" | tail -1)
folder=${CARGO_TARGET_DIR:-$root/target}/metal-check
rm -rf "$folder/objc2-metal"
mkdir -p "$folder/src"
cp -r "$source" "$folder/objc2-metal"
sed -i 's/#\[link(\(name = "Metal", kind = "framework"\))\]/#[cfg_attr(target_vendor = "apple", link(\1))]/' \
    "$folder/objc2-metal/src/generated/mod.rs"
grep -q 'cfg_attr(target_vendor = "apple", link' "$folder/objc2-metal/src/generated/mod.rs" ||
    { echo "error: objc2-metal $version names its framework in another way" >&2; exit 1; }
cat >"$folder/Cargo.toml" <<TOML
[package]
name = "metal-check"
version = "0.0.0"
edition = "2024"
publish = false

[workspace]

[dependencies]
pad-ir = { path = "$root/crates/pad", features = ["metal"] }
objc2 = { version = "0.6", features = ["gnustep-2-1"] }
block2 = { version = "0.6", features = ["gnustep-2-1"] }

[patch.crates-io]
objc2-metal = { path = "objc2-metal" }
TOML
cp Cargo.lock "$folder/Cargo.lock"
: >"$folder/src/lib.rs"
if ! cargo fetch --quiet --manifest-path "$folder/Cargo.toml" 2>"$folder/log"; then
    echo "left out: metal: GNUstep's variants of Apple's crates cannot be had: $(head -1 "$folder/log")"
    exit 0
fi
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target} cargo check --quiet --manifest-path "$folder/Cargo.toml"
echo "metal: type-checked (not linked, not run)"
