// Runs a kernel of CUDA C on the CPU, for tests: the threads of a block are fibers that take turns, so that they can wait
// for each other. Whatever they read or write outside their arrays is found: an array ends (in the other order of turns:
// begins) where memory that cannot be touched begins. So is a wait that not all of a block or warp take part in. In a third
// order arrays lie where no vector of four values is aligned.
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

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
#define __align__(bytes) __attribute__((aligned(bytes)))

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

static void __syncwarp() { wait(warp_barriers[threadIdx.x / 32], 32); }

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

// An array between two stretches of memory that cannot be touched.
struct Guarded {
    unsigned char *whole, *inside, *at;
    size_t total, room, bytes;
};

// Bytes that cannot be touched on each side, and what fills the room that an array leaves of its pages.
static const size_t GUARD = 1 << 26;
static const unsigned char FILL = 0xAB;
static std::vector<Guarded> memory;

// Flush with the end of its pages, or with their beginning, or `value` bytes before the end.
enum Order { FORWARDS = 0, BACKWARDS = 1, UNALIGNED = 2 };
static Guarded guarded(size_t bytes, size_t value, int order) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), gap = order == UNALIGNED ? value : 0;
    Guarded one;
    one.bytes = bytes;
    one.room = (bytes + gap + page - 1) / page * page;
    one.total = one.room + 2 * GUARD;
    one.whole = (unsigned char*)mmap(0, one.total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (one.whole == MAP_FAILED) exit(fail("no memory"));
    one.inside = one.whole + GUARD;
    if (one.room && mprotect(one.inside, one.room, PROT_READ | PROT_WRITE)) exit(fail("no memory"));
    memset(one.inside, FILL, one.room);
    one.at = order == BACKWARDS ? one.inside : one.inside + one.room - bytes - gap;
    return one;
}

static void outside(int, siginfo_t* info, void* context) {
    const char* how = "used";
#ifdef __x86_64__
    how = ((ucontext_t*)context)->uc_mcontext.gregs[REG_ERR] & 2 ? "written" : "read";
#endif
    unsigned char* where = (unsigned char*)info->si_addr;
    for (size_t i = 0; i < memory.size(); i++) {
        if (where >= memory[i].whole && where < memory[i].whole + memory[i].total) {
            fprintf(stderr, "argument %zu: %s outside the array\n", i, how);
            _exit(1);
        }
    }
    fprintf(stderr, "memory of no argument %s\n", how);
    _exit(1);
}

int main(int count, char** words) {
    if (count != 5) return fail("FUNCTION BLOCKS THREADS ORDER");
    struct Known { const char* name; void (*run)(void**); };
    static const Known known[] = { KERNELS };
    for (const Known& one : known) if (!strcmp(one.name, words[1])) body = one.run;
    if (!body) return fail("no such kernel");
    int threads = atoi(words[3]);
    int order = atoi(words[4]);
    bool backwards = order == BACKWARDS;
    gridDim = { (unsigned)atoi(words[2]), 1, 1 };
    blockDim = { (unsigned)threads, 1, 1 };

    // Each argument: a byte, the bytes of a value, its bytes as u64, and they. An array; a number; no array (a null pointer); an array of the table
    // of arrays, which is an argument itself and stands behind its last one.
    enum Kind { ARRAY = 0, NUMBER = 1, ABSENT = 2, ENTRY = 3, TABLE = 4 };
    std::vector<unsigned char> kinds;
    unsigned char kind, value;
    while (fread(&kind, 1, 1, stdin) == 1) {
        unsigned long long bytes;
        read_all(&value, 1);
        read_all(&bytes, 8);
        kinds.push_back(kind);
        memory.push_back(guarded(bytes, value, order));
        read_all(memory.back().at, bytes);
    }
    std::vector<void*> pointers(memory.size()), from, table;
    for (size_t i = 0; i < memory.size(); i++) {
        pointers[i] = kinds[i] == ABSENT ? nullptr : memory[i].at;
        if (kinds[i] == ENTRY) table.push_back(memory[i].bytes ? memory[i].at : nullptr);
    }
    void** table_at = table.data();
    for (size_t i = 0; i < memory.size(); i++) {
        if (kinds[i] == ARRAY || kinds[i] == ABSENT) from.push_back(&pointers[i]);
        if (kinds[i] == NUMBER) from.push_back(memory[i].at);
        if (kinds[i] == TABLE) from.push_back(&table_at);
    }
    arguments = from.data();

    static char signal_stack[1 << 16];
    stack_t other = {};
    other.ss_sp = signal_stack;
    other.ss_size = sizeof signal_stack;
    sigaltstack(&other, 0);
    struct sigaction action = {};
    action.sa_sigaction = outside;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, 0);
    sigaction(SIGBUS, &action, 0);

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
        const Guarded& one = memory[i];
        for (unsigned char* at = one.inside; at < one.inside + one.room; at++) {
            if ((at < one.at || at >= one.at + one.bytes) && *at != FILL) {
                fprintf(stderr, "argument %zu: written outside the array\n", i);
                return 1;
            }
        }
        if (kinds[i] == ARRAY || kinds[i] == ENTRY) fwrite(one.at, 1, one.bytes, stdout);
    }
    return 0;
}
