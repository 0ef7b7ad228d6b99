// The MAE loss over rows of `n` values, and the normalisation of its targets. A warp takes a row.

// `losses` (rows): mask mean((pred - target)^2).
extern "C" __global__ void masked_mse_rows(const T* pred, const T* target, const T* mask, float* losses, int rows, int n) {
    long long row = warp_row();
    if (row >= rows) return;
    bool whole = n % 4 == 0 && aligned(pred) && aligned(target);
    float sum = 0.0f, a[4], b[4];
    for (int i = 4 * lane(); i < n; i += 128) {
        load4(pred, row * n + i, n - i, whole, a);
        load4(target, row * n + i, n - i, whole, b);
        for (int k = 0; k < 4; k++) sum += (a[k] - b[k]) * (a[k] - b[k]);
    }
    sum = warp_sum(sum) / (float)n;
    if (lane() == 0) losses[row] = load(mask, row) * sum;
}

// The sum over the block's threads: the same order in every launch.
__device__ inline float block_total(float value) {
    __shared__ float sums[256];
    __syncthreads();
    sums[threadIdx.x] = value;
    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    return sums[0];
}

// `loss`: the sum of the rows' losses over that of the mask, which `removed` becomes. One block.
extern "C" __global__ void masked_mse_total(const float* losses, const T* mask, T* loss, float* removed, int rows) {
    float sum = 0.0f, count = 0.0f;
    for (int row = (int)threadIdx.x; row < rows; row += (int)blockDim.x) {
        sum += losses[row];
        count += load(mask, row);
    }
    sum = block_total(sum);
    count = block_total(count);
    if (threadIdx.x == 0) {
        store(loss, 0, sum / count);
        removed[0] = count;
    }
}

// d_pred = d_loss 2 (pred - target) mask / (n removed).
extern "C" __global__ void masked_mse_backward(
    const T* pred, const T* target, const T* mask, const float* removed, const T* d_loss, T* d_pred, int rows, int n) {
    long long row = warp_row();
    if (row >= rows) return;
    bool whole = n % 4 == 0 && aligned(pred) && aligned(target) && aligned(d_pred);
    float factor = 2.0f * load(d_loss, 0) * load(mask, row) / ((float)n * removed[0]), a[4], b[4];
    for (int i = 4 * lane(); i < n; i += 128) {
        load4(pred, row * n + i, n - i, whole, a);
        load4(target, row * n + i, n - i, whole, b);
        for (int k = 0; k < 4; k++) a[k] = factor * (a[k] - b[k]);
        store4(d_pred, row * n + i, n - i, whole, a);
    }
}

// y = (x - mean) / sqrt(variance + 1e-6) of each row, with the unbiased variance.
extern "C" __global__ void normalize_rows(const T* x, T* y, int rows, int n) {
    long long row = warp_row();
    if (row >= rows) return;
    bool whole = n % 4 == 0 && aligned(x) && aligned(y);
    float sum = 0.0f, square = 0.0f, four[4];
    for (int i = 4 * lane(); i < n; i += 128) {
        load4(x, row * n + i, n - i, whole, four);
        for (int k = 0; k < 4; k++) sum += four[k];
    }
    float mean = warp_sum(sum) / (float)n;
    for (int i = 4 * lane(); i < n; i += 128) {
        load4(x, row * n + i, n - i, whole, four);
        for (int k = 0; k < 4; k++) square += i + k < n ? (four[k] - mean) * (four[k] - mean) : 0.0f;
    }
    float scale = 1.0f / sqrtf(warp_sum(square) / (float)(n > 1 ? n - 1 : 1) + 1e-6f);
    for (int i = 4 * lane(); i < n; i += 128) {
        load4(x, row * n + i, n - i, whole, four);
        for (int k = 0; k < 4; k++) four[k] = (four[k] - mean) * scale;
        store4(y, row * n + i, n - i, whole, four);
    }
}
