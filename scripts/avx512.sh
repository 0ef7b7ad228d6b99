#!/usr/bin/env bash
# Runs tests of pad-ops at the level AVX-512 on a processor that lacks it: in Bochs, which emulates a whole machine with it
# (model corei7_icelake_u: AVX-512 F, BW, CD, DQ and VL; no AVX512-BF16). QEMU and Valgrind do not emulate AVX-512. The machine
# starts a Linux kernel whose only files are the test programs; it is some hundred times slower than a real one.
#   scripts/avx512.sh [TEST..]           tests by parts of their names (default: those of the AVX-512 kernels)
#   KERNEL=FILE scripts/avx512.sh ..     a kernel (vmlinuz) other than /boot's
#   PROGRAM=FILE scripts/avx512.sh ..    this program, with TEST.. as its arguments, in place of pad-ops' tests
# Debian: bochs bochs-term bochsbios vgabios isolinux syslinux-common xorriso busybox-static cpio linux-image-amd64
set -euo pipefail
cd "$(dirname "$0")/.."
left_out() { echo "-- left out: AVX-512 under an emulator: $1"; exit 0; }
if grep -qw avx512f /proc/cpuinfo && [ -z "${PROGRAM:-}" ]; then
    left_out "this processor has AVX-512, and the tests use it"
fi
for tool in bochs xorriso busybox cpio; do
    command -v $tool >/dev/null || left_out "needs $tool"
done
kernel=${KERNEL:-$(ls -t /boot/vmlinuz-* 2>/dev/null | head -1)}
[ -r "$kernel" ] || left_out "needs a Linux kernel (KERNEL=FILE)"
boot=/usr/lib/ISOLINUX/isolinux.bin library=/usr/lib/syslinux/modules/bios/ldlinux.c32
bios=/usr/share/bochs/BIOS-bochs-latest video=/usr/share/bochs/VGABIOS-lgpl-latest
for file in $boot $library $bios $video; do
    [ -r $file ] || left_out "needs $file"
done

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder"/{root/bin,root/proc,root/dev,iso}
tests=("$@")
if [ -n "${PROGRAM:-}" ]; then
    programs=$PROGRAM
else
    [ $# -gt 0 ] || tests=(cpu::unpacked cpu::bf16::tests::a_product levels_that_are_not_tested)
    programs=$(cargo test --locked --no-run --message-format=json -p pad-ops --lib 2>"$folder/log" |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p') || { tail -20 "$folder/log"; exit 1; }
    tests+=(--test-threads=1)
fi
{
    echo '#!/bin/busybox sh'
    echo 'busybox mount -t proc proc /proc; busybox mount -t devtmpfs dev /dev'
    echo 'export RAYON_NUM_THREADS=1 RUST_BACKTRACE=0'
    echo 'busybox grep -m1 -ow avx512vl /proc/cpuinfo'
    echo 'bad=0'
} >"$folder/root/init"
for program in $programs; do
    name=$(basename "$program")
    strip -o "$folder/root/bin/$name" "$program"
    # Libraries where the program expects them.
    for library_of in $(ldd "$program" 2>/dev/null | grep -oE '/[^ ]+' || true); do
        mkdir -p "$folder/root$(dirname "$library_of")"
        cp -L "$library_of" "$folder/root$library_of"
    done
    echo "/bin/$name ${tests[*]} || bad=1" >>"$folder/root/init"
done
printf '%s\n' 'echo "emulated: ended with $bad"' 'busybox poweroff -f' >>"$folder/root/init"
cp "$(command -v busybox)" "$folder/root/bin/busybox"
chmod +x "$folder/root/init"
(cd "$folder/root" && find . | cpio -o -H newc --quiet | gzip -1) >"$folder/iso/initrd"
cp "$kernel" "$folder/iso/vmlinuz"
cp $boot $library "$folder/iso/"
cat >"$folder/iso/isolinux.cfg" <<'CONFIG'
DEFAULT pad
PROMPT 0
LABEL pad
  KERNEL vmlinuz
  INITRD initrd
  APPEND console=ttyS0 quiet panic=-1 mitigations=off nokaslr random.trust_cpu=on tsc=unstable lpj=1000000
CONFIG
xorriso -as mkisofs -quiet -o "$folder/disk.iso" -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table \
    "$folder/iso" 2>"$folder/log" || { tail -5 "$folder/log"; exit 1; }
cat >"$folder/machine" <<CONFIG
megs: 768
cpu: model=corei7_icelake_u, count=1, ips=50000000, reset_on_triple_fault=0
romimage: file=$bios
vgaromimage: file=$video
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=$folder/disk.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$folder/serial
log: $folder/machine.log
panic: action=fatal
error: action=report
clock: sync=none
display_library: rfb, options="timeout=0"
CONFIG
from=$SECONDS
# Debian's program is the one with a debugger, which waits for "c".
echo c >"$folder/commands"
timeout "${LIMIT:-3000}" bochs -q -f "$folder/machine" -rc "$folder/commands" >"$folder/screen" 2>&1 </dev/null &
machine=$!
while kill -0 $machine 2>/dev/null; do
    if grep -q 'emulated: ended with' "$folder/serial" 2>/dev/null; then
        sleep 1
        kill $machine 2>/dev/null || true
        break
    fi
    sleep 2
done
wait $machine 2>/dev/null || true
cat "$folder/serial" 2>/dev/null | tr -d "\r" | grep -vE '^\[ |^$' || true
if ! grep -q 'emulated: ended with 0' "$folder/serial" 2>/dev/null; then
    tail -n 20 "$folder/screen" "$folder/machine.log" 2>/dev/null || true
    echo "error: the tests failed under the emulator, or it did not end"
    exit 1
fi
echo "-- AVX-512 in Bochs: $((SECONDS - from)) s"
