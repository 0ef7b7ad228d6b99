// What a linear layer does beside its products: a bias on every row of `n` values, and its gradient.

extern "C" __global__ void linear_add_bias(const T* x, const T* bias, T* y, int rows, int n) {
    long long at = place();
    if (at >= (long long)rows * n) return;
    store(y, at, load(x, at) + load(bias, at % n));
}

// `partial` (chunks, n): sums over a chunk of rows. A block takes 32 columns of a chunk; its warps take rows in turn, and
// their sums are added in the order of warps.
extern "C" __global__ void linear_sum_rows(const T* d_y, float* partial, int rows, int n, int chunks) {
    __shared__ float sums[8][32];
    int tiles = (n + 31) / 32;
    int tile = (int)(blockIdx.x % tiles), chunk = (int)(blockIdx.x / tiles);
    int warp = (int)(threadIdx.x / 32), column = tile * 32 + lane();
    int per_chunk = (rows + chunks - 1) / chunks;
    int first = chunk * per_chunk, end = min(first + per_chunk, rows);
    float sum = 0.0f;
    if (column < n) {
        for (long long row = first + warp; row < end; row += 8) sum += load(d_y, row * n + column);
    }
    sums[warp][lane()] = sum;
    __syncthreads();
    if (warp == 0 && column < n) {
        sum = 0.0f;
        for (int i = 0; i < 8; i++) sum += sums[i][lane()];
        partial[(long long)chunk * n + column] = sum;
    }
}
