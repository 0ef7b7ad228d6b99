// Layer norm over rows of `d` values: a warp takes a row. `moments` (rows, 2) are mean and 1 / sqrt(var + eps) in float.

__device__ inline void moments_of(const T* x, long long row, int d, float eps, float* mean, float* rstd) {
    float sum = 0.0f;
    for (int i = lane(); i < d; i += 32) sum += load(x, row * d + i);
    *mean = warp_sum(sum) / (float)d;
    // In two passes: the one-pass formula cancels.
    float square = 0.0f;
    for (int i = lane(); i < d; i += 32) {
        float centred = load(x, row * d + i) - *mean;
        square += centred * centred;
    }
    *rstd = 1.0f / sqrtf(warp_sum(square) / (float)d + eps);
}

extern "C" __global__ void layer_norm_forward(
    const T* x, const T* weight, const T* bias, T* y, int rows, int d, float eps) {
    long long row = warp_row();
    if (row >= rows) return;
    float mean, rstd;
    moments_of(x, row, d, eps, &mean, &rstd);
    for (int i = lane(); i < d; i += 32) {
        float normed = (load(x, row * d + i) - mean) * rstd;
        store(y, row * d + i, normed * load(weight, i) + load(bias, i));
    }
}

extern "C" __global__ void layer_norm_moments(const T* x, float* moments, int rows, int d, float eps) {
    long long row = warp_row();
    if (row >= rows) return;
    float mean, rstd;
    moments_of(x, row, d, eps, &mean, &rstd);
    if (lane() == 0) {
        moments[2 * row] = mean;
        moments[2 * row + 1] = rstd;
    }
}

// With n = (x - mean) rstd and g = d_y weight: d_x = rstd (g - mean(g) - n mean(g n)).
extern "C" __global__ void layer_norm_d_x(
    const T* x, const T* weight, const T* d_y, const float* moments, T* d_x, int rows, int d) {
    long long row = warp_row();
    if (row >= rows) return;
    float mean = moments[2 * row], rstd = moments[2 * row + 1];
    float g_sum = 0.0f, gn_sum = 0.0f;
    for (int i = lane(); i < d; i += 32) {
        float g = load(d_y, row * d + i) * load(weight, i);
        g_sum += g;
        gn_sum += g * (load(x, row * d + i) - mean) * rstd;
    }
    float g_mean = warp_sum(g_sum) / (float)d, gn_mean = warp_sum(gn_sum) / (float)d;
    for (int i = lane(); i < d; i += 32) {
        float g = load(d_y, row * d + i) * load(weight, i);
        float n = (load(x, row * d + i) - mean) * rstd;
        store(d_x, row * d + i, rstd * (g - g_mean - n * gn_mean));
    }
}

// `partial` (chunks, 2, d): sums of d_y n and d_y over a chunk of rows, the first for the weight, the second for the bias. A
// block takes 32 columns of a chunk; its warps take rows in turn, and their sums are added in the order of warps.
extern "C" __global__ void layer_norm_d_affine(
    const T* x, const T* d_y, const float* moments, float* partial, int rows, int d, int chunks) {
    __shared__ float sums[2][8][32];
    int tiles = (d + 31) / 32;
    int tile = (int)(blockIdx.x % tiles), chunk = (int)(blockIdx.x / tiles);
    int warp = (int)(threadIdx.x / 32), column = tile * 32 + lane();
    int per_chunk = (rows + chunks - 1) / chunks;
    int first = chunk * per_chunk, end = min(first + per_chunk, rows);
    float weight_sum = 0.0f, bias_sum = 0.0f;
    if (column < d) {
        for (long long row = first + warp; row < end; row += 8) {
            float g = load(d_y, row * d + column);
            weight_sum += g * (load(x, row * d + column) - moments[2 * row]) * moments[2 * row + 1];
            bias_sum += g;
        }
    }
    sums[0][warp][lane()] = weight_sum;
    sums[1][warp][lane()] = bias_sum;
    __syncthreads();
    // The first two warps finish: one the weight, one the bias.
    if (warp < 2 && column < d) {
        float sum = 0.0f;
        for (int i = 0; i < 8; i++) sum += sums[warp][i][lane()];
        partial[((long long)chunk * 2 + warp) * d + column] = sum;
    }
}
