// What every kernel begins with. No header of CUDA's is included, so that NVRTC needs no installation.

// The upper half of a float.
struct bf16 { unsigned short bits; };

__device__ inline float load(const float* values, long long at) { return values[at]; }

__device__ inline float load(const bf16* values, long long at) {
    return __uint_as_float((unsigned)values[at].bits << 16);
}

__device__ inline void store(float* values, long long at, float value) { values[at] = value; }

// To the nearest, ties to even; a NaN stays one.
__device__ inline unsigned short rounded(float value) {
    unsigned bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        bits |= 0x400000u;
    } else {
        bits += 0x7fffu + ((bits >> 16) & 1u);
    }
    return (unsigned short)(bits >> 16);
}

__device__ inline void store(bf16* values, long long at, float value) { values[at].bits = rounded(value); }

// Four values in one load or store.
struct __align__(16) Quad { float v[4]; };
struct __align__(8) HalfQuad { unsigned short v[4]; };

// Whether four values from a multiple of four on can be.
__device__ inline bool aligned(const float* values) { return (unsigned long long)values % 16 == 0; }
__device__ inline bool aligned(const bf16* values) { return (unsigned long long)values % 8 == 0; }

// Four values from `at` on, of which `left` are there (the others are 0); all in one load if `whole`.
__device__ inline void load4(const float* values, long long at, int left, bool whole, float* out) {
    if (whole) {
        Quad four = *(const Quad*)(values + at);
        for (int k = 0; k < 4; k++) out[k] = four.v[k];
    } else {
        for (int k = 0; k < 4; k++) out[k] = k < left ? values[at + k] : 0.0f;
    }
}

__device__ inline void load4(const bf16* values, long long at, int left, bool whole, float* out) {
    if (whole) {
        HalfQuad four = *(const HalfQuad*)(values + at);
        for (int k = 0; k < 4; k++) out[k] = __uint_as_float((unsigned)four.v[k] << 16);
    } else {
        for (int k = 0; k < 4; k++) out[k] = k < left ? load(values, at + k) : 0.0f;
    }
}

__device__ inline void store4(float* values, long long at, int left, bool whole, const float* in) {
    if (whole) {
        Quad four;
        for (int k = 0; k < 4; k++) four.v[k] = in[k];
        *(Quad*)(values + at) = four;
    } else {
        for (int k = 0; k < 4; k++) if (k < left) values[at + k] = in[k];
    }
}

__device__ inline void store4(bf16* values, long long at, int left, bool whole, const float* in) {
    if (whole) {
        HalfQuad four;
        for (int k = 0; k < 4; k++) four.v[k] = rounded(in[k]);
        *(HalfQuad*)(values + at) = four;
    } else {
        for (int k = 0; k < 4; k++) if (k < left) store(values, at + k, in[k]);
    }
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
