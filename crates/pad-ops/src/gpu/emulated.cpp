// Runs a kernel of CUDA C on the CPU, for tests: the threads of a block are fibers that take turns, so that they can wait
// for each other. Whatever they write outside their arrays is found; so is a wait that not all of a block take part in.
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cmath>
#include <tuple>
#include <utility>
#include <vector>

struct Index { unsigned x, y, z; };
static Index threadIdx, blockIdx, blockDim, gridDim;
#define __device__
#define __global__
#define __shared__ static
#define __restrict__

static int min(int a, int b) { return a < b ? a : b; }
static unsigned __float_as_uint(float value) { unsigned bits; memcpy(&bits, &value, 4); return bits; }
static float __uint_as_float(unsigned bits) { float value; memcpy(&value, &bits, 4); return value; }

// A meeting point of a number of fibers.
struct Barrier { int arrived = 0; long turn = 0; };

static std::vector<ucontext_t> fibers;
static std::vector<char> done;
static ucontext_t scheduler;
static int current, alive;
static long progress;
static float slots[1024];
static Barrier block_barrier, warp_barriers[32];

static void give_way() { swapcontext(&fibers[current], &scheduler); }

static void wait(Barrier& barrier, int count) {
    long turn = barrier.turn;
    progress++;
    if (++barrier.arrived == count) {
        barrier.arrived = 0;
        barrier.turn++;
        return;
    }
    while (barrier.turn == turn) give_way();
}

static void __syncthreads() { wait(block_barrier, (int)blockDim.x); }

static float __shfl_xor_sync(unsigned, float value, int mask) {
    int thread = (int)threadIdx.x;
    Barrier& warp = warp_barriers[thread / 32];
    slots[thread] = value;
    wait(warp, 32);
    float other = slots[thread ^ mask];
    wait(warp, 32);
    return other;
}

#include "kernel.inc"

static void (*body)(void**);
static void** arguments;

static void fiber() {
    body(arguments);
    done[current] = 1;
    alive--;
    progress++;
    give_way();
}

template <class... A, size_t... I>
static void call(void (*kernel)(A...), void** from, std::index_sequence<I...>) {
    kernel(*(A*)from[I]...);
}

template <class... A>
static void call(void (*kernel)(A...), void** from) {
    call(kernel, from, std::index_sequence_for<A...>());
}

template <auto kernel>
static void entry(void** from) { call(kernel, from); }

static int fail(const char* why) { fprintf(stderr, "%s\n", why); return 1; }

static void read_all(void* into, size_t bytes) {
    if (bytes && fread(into, 1, bytes, stdin) != bytes) exit(fail("the input ends early"));
}

// Bytes on both sides of every array.
static const size_t GUARD = 4096;

int main(int count, char** words) {
    if (count != 5) return fail("FUNCTION BLOCKS THREADS ORDER");
    struct Known { const char* name; void (*run)(void**); };
    static const Known known[] = { KERNELS };
    for (const Known& one : known) if (!strcmp(one.name, words[1])) body = one.run;
    if (!body) return fail("no such kernel");
    int threads = atoi(words[3]);
    bool backwards = atoi(words[4]);
    gridDim = { (unsigned)atoi(words[2]), 1, 1 };
    blockDim = { (unsigned)threads, 1, 1 };

    // Each argument: a byte (0 array, 1 number), its bytes as u64, and they.
    std::vector<std::vector<unsigned char>> memory;
    std::vector<char> is_array;
    unsigned char kind;
    while (fread(&kind, 1, 1, stdin) == 1) {
        unsigned long long bytes;
        read_all(&bytes, 8);
        is_array.push_back(kind == 0);
        memory.emplace_back(bytes + 2 * GUARD, 0xAB);
        read_all(memory.back().data() + GUARD, bytes);
    }
    std::vector<void*> pointers(memory.size()), from(memory.size());
    for (size_t i = 0; i < memory.size(); i++) {
        pointers[i] = memory[i].data() + GUARD;
        from[i] = is_array[i] ? (void*)&pointers[i] : pointers[i];
    }
    arguments = from.data();

    const size_t STACK = 1 << 16;
    std::vector<char> stacks(STACK * threads);
    for (unsigned block = 0; block < gridDim.x; block++) {
        blockIdx = { block, 0, 0 };
        fibers.assign(threads, ucontext_t());
        done.assign(threads, 0);
        alive = threads;
        block_barrier = Barrier();
        for (Barrier& one : warp_barriers) one = Barrier();
        for (int i = 0; i < threads; i++) {
            getcontext(&fibers[i]);
            fibers[i].uc_stack.ss_sp = &stacks[STACK * i];
            fibers[i].uc_stack.ss_size = STACK;
            fibers[i].uc_link = &scheduler;
            makecontext(&fibers[i], fiber, 0);
        }
        while (alive > 0) {
            long before = progress;
            for (int turn = 0; turn < threads; turn++) {
                current = backwards ? threads - 1 - turn : turn;
                if (done[current]) continue;
                threadIdx = { (unsigned)current, 0, 0 };
                swapcontext(&scheduler, &fibers[current]);
            }
            if (progress == before) return fail("threads wait for others that never come");
        }
    }
    for (size_t i = 0; i < memory.size(); i++) {
        const std::vector<unsigned char>& one = memory[i];
        for (size_t at = 0; at < GUARD; at++) {
            if (one[at] != 0xAB || one[one.size() - 1 - at] != 0xAB) {
                fprintf(stderr, "argument %zu: written outside the array\n", i);
                return 1;
            }
        }
        if (is_array[i]) fwrite(one.data() + GUARD, 1, one.size() - 2 * GUARD, stdout);
    }
    return 0;
}
