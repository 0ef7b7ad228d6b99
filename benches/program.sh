# For the scripts beside it: `program NAME` prints the path of the bench's program, built first, so that no build runs
# between measurements; with BENCH_PROGRAMS=FOLDER, that of one which lies there.
program() {
    if [ -n "${BENCH_PROGRAMS:-}" ]; then
        found=$BENCH_PROGRAMS/$1
    else
        found=$(cargo bench --no-run --bench "$1" 2>&1 | sed -n "s/.*$1.*(\(.*\)).*/\1/p")
    fi
    [ -x "$found" ] || { echo "the bench $1 is not built" >&2; return 1; }
    echo "$found"
}
