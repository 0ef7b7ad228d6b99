// What every kernel begins with. No header of CUDA's is included, so that NVRTC needs no installation.

// The upper half of a float.
struct bf16 { unsigned short bits; };

__device__ inline float load(const float* values, long long at) { return values[at]; }

__device__ inline float load(const bf16* values, long long at) {
    return __uint_as_float((unsigned)values[at].bits << 16);
}

__device__ inline void store(float* values, long long at, float value) { values[at] = value; }

// To the nearest, ties to even; a NaN stays one.
__device__ inline void store(bf16* values, long long at, float value) {
    unsigned bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        bits |= 0x400000u;
    } else {
        bits += 0x7fffu + ((bits >> 16) & 1u);
    }
    values[at].bits = (unsigned short)(bits >> 16);
}

// The sum over a warp, in every lane; all 32 must call it. A butterfly: the same order in every launch.
__device__ inline float warp_sum(float value) {
    for (int step = 16; step > 0; step /= 2) {
        value += __shfl_xor_sync(0xffffffffu, value, step);
    }
    return value;
}

__device__ inline float warp_max(float value) {
    for (int step = 16; step > 0; step /= 2) {
        float other = __shfl_xor_sync(0xffffffffu, value, step);
        // A NaN wins.
        value = (other > value || other != other) ? other : value;
    }
    return value;
}

// The row of this warp, and this thread's lane.
__device__ inline int warp_row() { return (int)(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32); }
__device__ inline int lane() { return (int)(threadIdx.x % 32); }
// The value of this thread.
__device__ inline long long place() { return (long long)blockIdx.x * blockDim.x + threadIdx.x; }
