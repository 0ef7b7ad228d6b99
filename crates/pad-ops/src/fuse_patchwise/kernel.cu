// The patchwise fusion: tokens of `d` values, a warp takes a token. `mlp_at` and `adapter_at` say where the gate's weights
// for the MLP's output and for the adapter's begin, -1 where the gate does not look at that branch.

__device__ inline float scale_of(
    const T* adapter, const T* mlp, const T* gate, long long token, int d, int mlp_at, int adapter_at) {
    float logit = 0.0f;
    for (int i = lane(); i < d; i += 32) {
        if (mlp_at >= 0) logit += load(gate, mlp_at + i) * load(mlp, token * d + i);
        if (adapter_at >= 0) logit += load(gate, adapter_at + i) * load(adapter, token * d + i);
    }
    return 1.0f / (1.0f + expf(-warp_sum(logit)));
}

extern "C" __global__ void fuse_forward(
    const T* adapter, const T* mlp, const T* gate, T* delta, int tokens, int d, int mlp_at, int adapter_at) {
    long long token = warp_row();
    if (token >= tokens) return;
    float scale = scale_of(adapter, mlp, gate, token, d, mlp_at, adapter_at);
    for (int i = lane(); i < d; i += 32) store(delta, token * d + i, scale * load(adapter, token * d + i));
}

// `scales` (tokens, 2): the scale s and d_logit = s (1 - s) (d_delta . adapter).
extern "C" __global__ void fuse_scales(
    const T* adapter, const T* mlp, const T* gate, const T* d_delta, float* scales, int tokens, int d, int mlp_at,
    int adapter_at) {
    long long token = warp_row();
    if (token >= tokens) return;
    float scale = scale_of(adapter, mlp, gate, token, d, mlp_at, adapter_at);
    float inner = 0.0f;
    for (int i = lane(); i < d; i += 32) inner += load(d_delta, token * d + i) * load(adapter, token * d + i);
    inner = warp_sum(inner);
    if (lane() == 0) {
        scales[2 * token] = scale;
        scales[2 * token + 1] = scale * (1.0f - scale) * inner;
    }
}

// d_adapter = s d_delta + d_logit gate_adapter.
extern "C" __global__ void fuse_d_adapter(
    const T* gate, const T* d_delta, const float* scales, T* d_adapter, int tokens, int d, int mlp_at, int adapter_at) {
    long long token = warp_row();
    if (token >= tokens) return;
    for (int i = lane(); i < d; i += 32) {
        float value = scales[2 * token] * load(d_delta, token * d + i);
        if (adapter_at >= 0) value += scales[2 * token + 1] * load(gate, adapter_at + i);
        store(d_adapter, token * d + i, value);
    }
}

// d_mlp = d_logit gate_mlp.
extern "C" __global__ void fuse_d_mlp(
    const T* gate, const float* scales, T* d_mlp, int tokens, int d, int mlp_at, int adapter_at) {
    long long token = warp_row();
    if (token >= tokens) return;
    for (int i = lane(); i < d; i += 32) {
        store(d_mlp, token * d + i, mlp_at >= 0 ? scales[2 * token + 1] * load(gate, mlp_at + i) : 0.0f);
    }
}

// `partial` (chunks, 2, d): sums of d_logit mlp and of d_logit adapter over a chunk of tokens. A block takes 32 columns of a
// chunk; its warps take tokens in turn, and their sums are added in the order of warps.
extern "C" __global__ void fuse_d_gate(
    const T* adapter, const T* mlp, const float* scales, float* partial, int tokens, int d, int chunks) {
    __shared__ float sums[2][8][32];
    int tiles = (d + 31) / 32;
    int tile = (int)(blockIdx.x % tiles), chunk = (int)(blockIdx.x / tiles);
    int warp = (int)(threadIdx.x / 32), column = tile * 32 + lane();
    int per_chunk = (tokens + chunks - 1) / chunks;
    int first = chunk * per_chunk, end = min(first + per_chunk, tokens);
    float mlp_sum = 0.0f, adapter_sum = 0.0f;
    if (column < d) {
        for (long long token = first + warp; token < end; token += 8) {
            float d_logit = scales[2 * token + 1];
            mlp_sum += d_logit * load(mlp, token * d + column);
            adapter_sum += d_logit * load(adapter, token * d + column);
        }
    }
    sums[0][warp][lane()] = mlp_sum;
    sums[1][warp][lane()] = adapter_sum;
    __syncthreads();
    if (warp < 2 && column < d) {
        float sum = 0.0f;
        for (int i = 0; i < 8; i++) sum += sums[warp][i][lane()];
        partial[((long long)chunk * 2 + warp) * d + column] = sum;
    }
}
