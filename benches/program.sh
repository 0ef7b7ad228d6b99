# For the scripts beside it: `program NAME` prints the path of the bench's program, built first, so that no build runs
# between measurements; with BENCH_PROGRAMS=FOLDER, that of one which lies there. Where the build fails, it prints what
# cargo says. Programs that cargo does not start are told here what .cargo/config.toml tells the others.
export MIMALLOC_PURGE_DELAY="${MIMALLOC_PURGE_DELAY:--1}"
program() {
    if [ -n "${BENCH_PROGRAMS:-}" ]; then
        found=$BENCH_PROGRAMS/$1
    else
        build=$(mktemp)
        if ! cargo bench --no-run --bench "$1" >"$build" 2>&1; then
            cat "$build" >&2
            rm -f "$build"
            return 1
        fi
        found=$(sed -n "s/.*$1.*(\(.*\)).*/\1/p" "$build")
        rm -f "$build"
    fi
    [ -x "$found" ] || { echo "the bench $1 is not built" >&2; return 1; }
    echo "$found"
}
