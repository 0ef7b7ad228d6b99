#!/usr/bin/env bash
# Everything that a GPU has to answer, on a machine without Rust and network, in ten minutes. Lies in the archive of
# scripts/gpu-pack.sh beside the programs that it runs.
#
#   OUT=results ./gpu_lease.sh           PYTHON names an interpreter with torch (default: python3)
#   OUT=results ./gpu_lease.sh --dry-run the CPU in the GPU's place: tries the script itself
#   STAGES="env check step" ./gpu_lease.sh   only these
#   SECONDS_LEFT=570                     what the whole may take
#
# Each stage has its own time limit and writes lines of JSON to $OUT/result.jsonl at once, so that nothing is lost when a
# later one fails; its whole output lies in $OUT/STAGE.log. The table at the end compares numbers of this run only.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-gpu-results}
python=${PYTHON:-python3}
device=cuda
dry=0
if [ "${1:-}" = --dry-run ]; then dry=1 device=cpu; shift; fi
[ $# = 0 ] || { echo "error: expected --dry-run or nothing, found $1" >&2; exit 2; }
stages=${STAGES:-env check step train torch again sanitizer kernels}
deadline=$((SECONDS + ${SECONDS_LEFT:-570}))
mkdir -p "$out"
out=$(cd "$out" && pwd)
result=$out/result.jsonl
: >"$result"

wanted() { case " $stages " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

# A string as JSON.
quoted() { "$python" -c 'import json, sys; print(json.dumps(sys.argv[1]))' "$1"; }

say() { echo "$1" | tee -a "$result"; }

# run STAGE SECONDS COMMAND..: lines of JSON that the command prints get the stage's name and are written at once; a line
# with its end follows. Returns the command's status, 124 when the time was over.
run() {
    local stage=$1 seconds=$2 start status left why
    shift 2
    left=$((deadline - SECONDS))
    if [ $left -lt 5 ]; then
        say "{\"stage\":\"$stage\",\"command\":$(quoted "${*##*/pad-gpu/}"),\"error\":\"no time left\"}"
        return 1
    fi
    [ "$seconds" -le $left ] || seconds=$left
    start=$(date +%s.%N)
    echo "\$ $*" >>"$out/$stage.log"
    # To the command alone, not to those behind it: its status counts.
    timeout --kill-after=5 "$seconds" "$@" 2>>"$out/$stage.log" |
        while IFS= read -r line; do
            printf '%s\n' "$line" >>"$out/$stage.log"
            case $line in
            "{"*"}") say "{\"stage\":\"$stage\",${line#\{}" ;;
            esac
        done
    status=${PIPESTATUS[0]}
    why=
    if [ "$status" != 0 ]; then
        # What the program itself said last, e.g. that there is no device.
        why=$(grep -E '(^|: )error|Error\b|panicked' "$out/$stage.log" | tail -1)
        [ -z "$why" ] || why=",\"error\":$(quoted "$why")"
    fi
    say "{\"stage\":\"$stage\",\"command\":$(quoted "${*##*/pad-gpu/}"),\"status\":$status,\"took_s\":$(
        awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { printf "%.2f", b - a }'
    )$why}"
    return "$status"
}

# Sizes of the dry run: what takes seconds on a CPU.
if [ $dry = 1 ]; then
    check_flags=(--small) step_flags=(--batch 1 --steps 1)
    train_flags=(--model tiny --steps 1 --threads "$(nproc)")
    batches=(2 1) fallbacks=(1) torch_flags=(--model tiny --steps 1)
else
    check_flags=() step_flags=()
    train_flags=(--model base --steps 20 --threads "$(nproc)")
    batches=(64 256) fallbacks=(128 64) torch_flags=(--model base --steps 20)
fi
largest=${batches[-1]}

### Environment: versions, and every library that the programs link against.
libraries() {
    "$python" - <<'PYTHON'
import importlib.util, os, site, sys

roots = []
try:
    import nvidia  # a namespace package of NVIDIA's wheels
    roots += list(nvidia.__path__)
except ImportError:
    pass
roots += [os.path.join(p, "nvidia") for p in site.getsitepackages() + [site.getusersitepackages()]]
spec = importlib.util.find_spec("torch")
if spec and spec.origin:
    roots.append(os.path.join(os.path.dirname(spec.origin), "lib"))
for cuda in [os.environ.get("CUDA_HOME"), "/usr/local/cuda"]:
    if cuda:
        roots.append(os.path.join(cuda, "lib64"))
found = []
for root in roots:
    for folder, _, files in os.walk(root):
        if folder not in found and any(".so" in name and name.startswith("lib") for name in files):
            if os.path.basename(folder) != "stubs":
                found.append(folder)
print(":".join(found))
PYTHON
}

env_stage() {
    local name missing glibc torch cuda
    if [ $dry = 1 ]; then name="no GPU (dry run)"; else
        name=$(nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null | head -1)
    fi
    missing=$(for program in gpu_check gpu_step train_step; do
        ldd "$here/$program" 2>&1 | awk '/not found/ { print $1 }'
    done | sort -u | tr '\n' ' ')
    # NVRTC opens its second half by name when it compiles first: ldd does not see it.
    if [ $dry = 0 ]; then
        case $(IFS=:; for folder in $LD_LIBRARY_PATH; do ls "$folder" 2>/dev/null; done) in
        *libnvrtc-builtins.so*) ;;
        *) missing="$missing libnvrtc-builtins" ;;
        esac
    fi
    glibc=$(ldd --version 2>/dev/null | head -1 | grep -oE '[0-9.]+$')
    torch=$("$python" -c 'import torch; print(torch.__version__)' 2>/dev/null || echo none)
    cuda=$(nvcc --version 2>/dev/null | grep -oE 'release [0-9.]+' || echo none)
    say "{\"stage\":\"env\",\"gpu\":$(quoted "$name"),\"glibc\":$(quoted "$glibc"),\"torch\":$(quoted "$torch"),\"nvcc\":$(
        quoted "$cuda"
    ),\"built\":$(quoted "$(tr '\n' ' ' <"$here/BUILT")"),\"libraries\":$(
        quoted "$LD_LIBRARY_PATH"
    ),\"missing\":$(quoted "${missing% }")}"
    [ -n "$name" ] && [ -z "$missing" ]
}

found=$(libraries)
export LD_LIBRARY_PATH="$found${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
if wanted env && ! env_stage; then
    say '{"stage":"env","error":"no GPU, or libraries are missing: nothing else is run"}'
    exit 1
fi

### Every operator against the CPU; what misses or fails, once more under compute-sanitizer.
sanitizer=$(command -v compute-sanitizer || true)
if wanted check; then
    if ! run check 90 "$here/gpu_check" --json --device $device "${check_flags[@]}" && [ -n "$sanitizer" ]; then
        "$python" - "$result" <<'PYTHON' >"$out/missed"
import json, sys

names = []
for line in open(sys.argv[1]):
    row = json.loads(line)
    if row.get("stage") == "check" and row.get("ok") is False and row["operator"] not in names:
        names.append(row["operator"])
print("\n".join(names[:3]))
PYTHON
        while IFS= read -r operator; do
            [ -n "$operator" ] || continue
            run check-again 60 "$sanitizer" --error-exitcode 9 \
                "$here/gpu_check" --json --device $device --child 0 --only "$operator" </dev/null
        done <"$out/missed"
    fi
fi

### Whole steps, CPU beside GPU.
if wanted step; then
    if ! run step 45 "$here/gpu_step" --device $device "${step_flags[@]}"; then
        run step-f32 30 "$here/gpu_step" --device $device "${step_flags[@]}" --dtype f32
        run step-compositions 30 "$here/gpu_step" --device $device "${step_flags[@]}" --compositions
    fi
fi

### Times of ours: both batches, then the switches one by one.
ours() {
    local stage=$1 batch=$2
    shift 2
    run "$stage" 60 "$here/train_step" --paradigm pad --dtype bf16 --device $device "${train_flags[@]}" --batch "$batch" "$@"
}
if wanted train; then
    good=0
    for batch in "${batches[@]}"; do
        if ours train "$batch"; then good=$batch; fi
    done
    if [ "$good" != "$largest" ]; then
        for batch in "${fallbacks[@]}"; do
            if ours train "$batch"; then good=$batch; break; fi
        done
    fi
    if [ "$good" != 0 ]; then
        largest=$good
        ours parts "$largest" --parts
        for switch in --release-memory --event-tracking --argument-cache --tf32 --checkpoint-blocks; do
            ours switch "$largest" "$switch"
        done
    fi
fi

### PyTorch, then ours once more: clocks drift.
torch() {
    run torch "$1" "$python" "$here/pad_mae_torch.py" --paradigm pad --dtype bf16 --device $device "${torch_flags[@]}" \
        --batch "$largest" "${@:2}"
}
if wanted torch; then
    if "$python" -c 'import torch' 2>/dev/null; then
        torch 60
        [ $dry = 1 ] || torch 120 --compile
    else
        say '{"stage":"torch","error":"no torch"}'
    fi
fi
if wanted again; then ours again "$largest"; fi

### Memory and races of the kernels, on small cases.
if wanted sanitizer; then
    if [ -n "$sanitizer" ] && [ $dry = 0 ]; then
        for tool in memcheck racecheck; do
            run "sanitizer-$tool" 60 "$sanitizer" --tool $tool --error-exitcode 9 --print-limit 5 \
                "$here/gpu_check" --json --device $device --small --child 0
            say "{\"stage\":\"sanitizer\",\"tool\":\"$tool\",\"summary\":$(
                quoted "$(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$out/sanitizer-$tool.log" | tail -1)"
            )}"
        done
    else
        say '{"stage":"sanitizer","error":"not run: no compute-sanitizer, or a dry run"}'
    fi
fi

### Times by kernel over one step.
if wanted kernels; then
    profiler=$(command -v ncu || true)
    if [ -n "$profiler" ] && [ $dry = 0 ]; then
        run kernels 90 "$profiler" --csv --metrics gpu__time_duration.sum --launch-count 4000 \
            "$here/train_step" --paradigm pad --dtype bf16 --device $device --model base --steps 1 --batch 64
        "$python" - "$out/kernels.log" <<'PYTHON' | while IFS= read -r line; do say "$line"; done
import csv, json, sys

lines = [line for line in open(sys.argv[1], errors="replace") if line.startswith('"')]
total, count = {}, {}
rows = list(csv.reader(lines))
if rows and "Kernel Name" in rows[0]:
    name_at, value_at = rows[0].index("Kernel Name"), rows[0].index("Metric Value")
    for row in rows[1:]:
        try:
            value = float(row[value_at].replace(",", ""))
        except (ValueError, IndexError):
            continue
        name = row[name_at].split("(")[0][:80]
        total[name] = total.get(name, 0.0) + value
        count[name] = count.get(name, 0) + 1
for name in sorted(total, key=total.get, reverse=True)[:25]:
    print(json.dumps(dict(stage="kernels", kernel=name, count=count[name], us=round(total[name] / 1e3, 1))))
PYTHON
    else
        say '{"stage":"kernels","error":"not run: no ncu, or a dry run"}'
    fi
fi

### The table.
"$python" - "$result" <<'PYTHON'
import json, sys

rows = [json.loads(line) for line in open(sys.argv[1])]
env = next((row for row in rows if row["stage"] == "env"), {})
print()
print("card:", env.get("gpu", "unknown"))
checks = [row for row in rows if row["stage"] == "check" and "operator" in row]
missed = [row for row in checks if not row["ok"]]
print(f"operators: {len(checks) - len(missed)} of {len(checks)} agree with the CPU")
for row in missed:
    what = row.get("error") or f"forward {row['forward']:.1e}, gradient {row['gradient']:.1e}, allowed {row['allowed']:.0e}"
    print(f"  {row['operator']} ({row['kind']}): {what}")
for row in rows:
    if row["stage"].startswith("step") and "worst" in row:
        print(f"steps, {row['precision']}: largest error {row['error']:.1e} ({row['worst'] or 'none'}), allowed {row['allowed']:.0e}")
times = [row for row in rows if "images_per_s" in row]
if times:
    best = max((row["images_per_s"] for row in times if row["stage"] == "torch"), default=None)
    print(f"{'who':<22}{'batch':>6}{'images/s':>11}{'step ms':>10}{'MiB':>8}{'/ torch':>9}  switches, parts")
    for row in times:
        ratio = f"{row['images_per_s'] / best:.2f}" if best else ""
        parts = [f"{key[:-2]} {row[key] * 1e3:.1f}" for key in ("forward_s", "backward_s", "update_s") if key in row]
        notes = ", ".join(row.get("switches", []) + parts)
        print(f"{row['peer'][:21]:<22}{row['batch']:>6}{row['images_per_s']:>11.1f}{row['step_s'] * 1e3:>10.1f}"
              f"{row['peak_mib']:>8}{ratio:>9}  {notes}")
for row in rows:
    if row["stage"] == "sanitizer" and "summary" in row:
        print(f"{row['tool']}: {row['summary'] or 'no summary'}")
failed = [row for row in rows if row.get("status") or row.get("error") and "command" in row]
for row in failed:
    print(f"{row.get('error') or 'status %s' % row['status']}: {row['stage']}: {row['command'][:100]}")
sys.exit(1 if missed or any(row["stage"] in ("check", "step") for row in failed) else 0)
PYTHON
