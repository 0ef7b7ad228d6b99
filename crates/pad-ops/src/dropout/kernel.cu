// Dropout whose mask is the key's ChaCha8 stream: value i takes the stream's i-th 32-bit number, as on the CPU.

__device__ inline unsigned rotated(unsigned value, int by) { return (value << by) | (value >> (32 - by)); }

__device__ inline void quarter_round(unsigned* s, int a, int b, int c, int d) {
    s[a] += s[b]; s[d] = rotated(s[d] ^ s[a], 16);
    s[c] += s[d]; s[b] = rotated(s[b] ^ s[c], 12);
    s[a] += s[b]; s[d] = rotated(s[d] ^ s[a], 8);
    s[c] += s[d]; s[b] = rotated(s[b] ^ s[c], 7);
}

// The 16 numbers of a block of the key's stream.
__device__ inline void draw(
    long long block, int k0, int k1, int k2, int k3, int k4, int k5, int k6, int k7, unsigned* drawn) {
    unsigned start[16] = {0x61707865u, 0x3320646eu, 0x79622d32u, 0x6b206574u,
                          (unsigned)k0, (unsigned)k1, (unsigned)k2, (unsigned)k3,
                          (unsigned)k4, (unsigned)k5, (unsigned)k6, (unsigned)k7,
                          (unsigned)block, (unsigned)((unsigned long long)block >> 32), 0u, 0u};
    unsigned s[16];
    for (int i = 0; i < 16; i++) s[i] = start[i];
    for (int pair = 0; pair < 4; pair++) {
        quarter_round(s, 0, 4, 8, 12);
        quarter_round(s, 1, 5, 9, 13);
        quarter_round(s, 2, 6, 10, 14);
        quarter_round(s, 3, 7, 11, 15);
        quarter_round(s, 0, 5, 10, 15);
        quarter_round(s, 1, 6, 11, 12);
        quarter_round(s, 2, 7, 8, 13);
        quarter_round(s, 3, 4, 9, 14);
    }
    for (int i = 0; i < 16; i++) drawn[i] = s[i] + start[i];
}

// Values are multiplied by 0 where the number is below `threshold`, by `kept` elsewhere. A thread takes the 16 values that one
// block of the stream is for.
extern "C" __global__ void dropout(
    const T* x, T* y, int count, int k0, int k1, int k2, int k3, int k4, int k5, int k6, int k7, int threshold, float kept) {
    long long block = place();
    if (block * 16 >= count) return;
    unsigned drawn[16];
    draw(block, k0, k1, k2, k3, k4, k5, k6, k7, drawn);
    for (int i = 0; i < 16; i++) {
        long long at = block * 16 + i;
        if (at >= count) return;
        store(y, at, drawn[i] < (unsigned)threshold ? 0.0f * load(x, at) : kept * load(x, at));
    }
}
