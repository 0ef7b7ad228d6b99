// Self-attention on packed queries, keys and values (images, n, 3 d) of heads of HD values, read and written where they lie.
// `bias` (3 d), of the type X, is added to what is read; it may be absent.
//
// GROUP threads work on a head, LANES of them on a row of it, each on WIDTH of its values; PER_BLOCK heads share a block. What
// all rows need passes through shared memory, TILE rows at a time, where the values of a lane lie PITCH apart. Rows beyond the
// threads are taken in further turns. The logits of a row are never stored: the forward keeps their peak and sum on the way
// (Milakov and Gimelshein, 2018) and leaves the logarithm of the sum of their exponentials, from which the backward computes
// the probabilities again (Dao et al., 2022).
#define ROWS (GROUP / LANES)
#define STRIDE (LANES * PITCH)

struct Head {
    long long qkv, out, lse;  // where it begins in each array
    int first;                // its place in the bias and in a row
    int slot, thread, part;   // its place in the block, the thread's place in it, the lane's in a row
    bool here;
};

__device__ inline Head head_of(int images, int n, int heads) {
    Head it;
    long long d = heads * HD;
    int group = (int)threadIdx.x / GROUP;
    long long index = (long long)blockIdx.x * PER_BLOCK + group;
    it.here = group < PER_BLOCK && index < (long long)images * heads;
    if (!it.here) index = 0;
    it.slot = it.here ? group : 0;
    it.thread = (int)threadIdx.x % GROUP;
    it.part = it.thread % LANES;
    it.first = (int)(index % heads) * HD;
    it.qkv = index / heads * n * 3 * d + it.first;
    it.out = index / heads * n * d + it.first;
    it.lse = index * n;
    return it;
}

__device__ inline float with_bias(const T* qkv, const X* bias, long long at, int bias_at) {
    return load(qkv, at) + (bias ? load(bias, bias_at) : 0.0f);
}

// The sum over the lanes of a row, in each of them.
__device__ inline float row_sum(float value) {
    for (int step = LANES / 2; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}

extern "C" __global__ void attention_forward(
    const T* qkv, const X* bias, T* out, float* lse, int images, int n, int heads, float scale) {
    __shared__ __align__(16) float keys[PER_BLOCK][TILE][STRIDE];
    __shared__ __align__(16) float values[PER_BLOCK][TILE][STRIDE];
    Head it = head_of(images, n, heads);
    int d = heads * HD;
    for (int turn = 0; turn < n; turn += ROWS) {
        int row = turn + it.thread / LANES;
        bool live = it.here && row < n;
        float q[WIDTH], o[WIDTH];
#pragma unroll
        for (int w = 0; w < WIDTH; w++) {
            int c = it.part * WIDTH + w;
            bool there = live && c < HD;
            q[w] = there ? scale * with_bias(qkv, bias, it.qkv + (long long)row * 3 * d + c, it.first + c) : 0.0f;
            o[w] = 0.0f;
        }
        float peak = -__uint_as_float(0x7f800000u), sum = 0.0f;
        for (int tile = 0; tile < n; tile += TILE) {
            __syncthreads();
            for (int i = it.thread; it.here && i < TILE * LANES * WIDTH; i += GROUP) {
                int j = i / (LANES * WIDTH), c = i % (LANES * WIDTH), place = c / WIDTH * PITCH + c % WIDTH;
                bool there = tile + j < n && c < HD;
                long long at = it.qkv + (long long)(tile + j) * 3 * d + c;
                keys[it.slot][j][place] = there ? with_bias(qkv, bias, at + d, it.first + d + c) : 0.0f;
                values[it.slot][j][place] = there ? with_bias(qkv, bias, at + 2 * d, it.first + 2 * d + c) : 0.0f;
            }
            __syncthreads();
            int end = min(TILE, n - tile);
            for (int j = 0; j < end; j++) {
                const float* key = &keys[it.slot][j][it.part * PITCH];
                const float* value = &values[it.slot][j][it.part * PITCH];
                float logit = 0.0f;
#pragma unroll
                for (int w = 0; w < WIDTH; w++) logit += q[w] * key[w];
                logit = row_sum(logit);
                if (logit > peak) {
                    float shrink = expf(peak - logit);
                    sum *= shrink;
#pragma unroll
                    for (int w = 0; w < WIDTH; w++) o[w] *= shrink;
                    peak = logit;
                }
                float p = expf(logit - peak);
                sum += p;
#pragma unroll
                for (int w = 0; w < WIDTH; w++) o[w] += p * value[w];
            }
        }
        if (live) {
#pragma unroll
            for (int w = 0; w < WIDTH; w++) {
                int c = it.part * WIDTH + w;
                if (c < HD) store(out, it.out + (long long)row * d + c, o[w] / sum);
            }
            if (it.part == 0) lse[it.lse + row] = peak + logf(sum);
        }
    }
}

// Adds the sums of the rows' values over the rows of a turn to `totals`, a head's HD numbers in shared memory: over the lanes of
// a warp, then over the warps in their order.
__device__ inline void add_columns(const float* row_values, bool live, Head it, float* totals) {
    __shared__ float warps[8][LANES * WIDTH];
    int warp = (int)threadIdx.x / 32;
#pragma unroll
    for (int w = 0; w < WIDTH; w++) {
        float value = live ? row_values[w] : 0.0f;
        for (int step = 16; step >= LANES; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
        if (lane() < LANES) warps[warp][lane() * WIDTH + w] = value;
    }
    __syncthreads();
    for (int c = it.thread; it.here && c < HD; c += GROUP) {
        float sum = 0.0f;
        for (int i = 0; i < GROUP / 32; i++) sum += warps[it.slot * (GROUP / 32) + i][c];
        totals[c] += sum;
    }
    __syncthreads();
}

// With P the probabilities and D = rowsum(d_out out): d_v = P^T d_out, d_logits = P (d_out v^T - D), d_q = scale d_logits k,
// d_k = scale d_logits^T q. First rows of queries, then rows of keys and values: no sum is shared between threads. `partial`
// (images, 3 d), if it is there: the sums of d_qkv over the tokens of each image, for the bias.
extern "C" __global__ void attention_backward(
    const T* qkv, const X* bias, const T* out, const float* lse, const T* d_out, T* d_qkv, float* partial, int images,
    int n, int heads, float scale) {
    // Keys and values, then queries and gradients.
    __shared__ __align__(16) float left[PER_BLOCK][TILE][STRIDE];
    __shared__ __align__(16) float right[PER_BLOCK][TILE][STRIDE];
    __shared__ float logs[256], inner[256], totals[PER_BLOCK][3][HD];
    Head it = head_of(images, n, heads);
    int d = heads * HD;
    for (int i = it.thread; it.here && i < 3 * HD; i += GROUP) totals[it.slot][i / HD][i % HD] = 0.0f;
    // Where the head's rows lie in `logs` and `inner`; one head a block where rows take several turns.
    int rows_at = it.slot * ROWS;
    for (int turn = 0; turn < n; turn += ROWS) {
        int row = turn + it.thread / LANES;
        bool live = it.here && row < n;
        float q[WIDTH], g[WIDTH], d_q[WIDTH], product = 0.0f;
#pragma unroll
        for (int w = 0; w < WIDTH; w++) {
            int c = it.part * WIDTH + w;
            bool there = live && c < HD;
            long long at = it.out + (long long)row * d + c;
            q[w] = there ? scale * with_bias(qkv, bias, it.qkv + (long long)row * 3 * d + c, it.first + c) : 0.0f;
            g[w] = there ? load(d_out, at) : 0.0f;
            product += there ? g[w] * load(out, at) : 0.0f;
            d_q[w] = 0.0f;
        }
        product = row_sum(product);
        float log_sum = live ? lse[it.lse + row] : 0.0f;
        if (live && it.part == 0) {
            logs[rows_at + row] = log_sum;
            inner[rows_at + row] = product;
        }
        for (int tile = 0; tile < n; tile += TILE) {
            __syncthreads();
            for (int i = it.thread; it.here && i < TILE * LANES * WIDTH; i += GROUP) {
                int j = i / (LANES * WIDTH), c = i % (LANES * WIDTH), place = c / WIDTH * PITCH + c % WIDTH;
                bool there = tile + j < n && c < HD;
                long long at = it.qkv + (long long)(tile + j) * 3 * d + c;
                left[it.slot][j][place] = there ? with_bias(qkv, bias, at + d, it.first + d + c) : 0.0f;
                right[it.slot][j][place] = there ? with_bias(qkv, bias, at + 2 * d, it.first + 2 * d + c) : 0.0f;
            }
            __syncthreads();
            int end = min(TILE, n - tile);
            for (int j = 0; j < end; j++) {
                const float* key = &left[it.slot][j][it.part * PITCH];
                const float* value = &right[it.slot][j][it.part * PITCH];
                float logit = 0.0f, d_p = 0.0f;
#pragma unroll
                for (int w = 0; w < WIDTH; w++) {
                    logit += q[w] * key[w];
                    d_p += g[w] * value[w];
                }
                logit = row_sum(logit);
                d_p = row_sum(d_p);
                float d_logit = expf(logit - log_sum) * (d_p - product);
#pragma unroll
                for (int w = 0; w < WIDTH; w++) d_q[w] += d_logit * key[w];
            }
        }
#pragma unroll
        for (int w = 0; w < WIDTH; w++) {
            int c = it.part * WIDTH + w;
            d_q[w] *= scale;
            if (live && c < HD) store(d_qkv, it.qkv + (long long)row * 3 * d + c, d_q[w]);
        }
        if (partial) add_columns(d_q, live, it, totals[it.slot][0]);
    }
    for (int turn = 0; turn < n; turn += ROWS) {
        int row = turn + it.thread / LANES;
        bool live = it.here && row < n;
        float k[WIDTH], v[WIDTH], d_k[WIDTH], d_v[WIDTH];
#pragma unroll
        for (int w = 0; w < WIDTH; w++) {
            int c = it.part * WIDTH + w;
            bool there = live && c < HD;
            long long at = it.qkv + (long long)row * 3 * d + c;
            k[w] = there ? with_bias(qkv, bias, at + d, it.first + d + c) : 0.0f;
            v[w] = there ? with_bias(qkv, bias, at + 2 * d, it.first + 2 * d + c) : 0.0f;
            d_k[w] = 0.0f;
            d_v[w] = 0.0f;
        }
        for (int tile = 0; tile < n; tile += TILE) {
            __syncthreads();
            for (int i = it.thread; it.here && i < TILE * LANES * WIDTH; i += GROUP) {
                int j = i / (LANES * WIDTH), c = i % (LANES * WIDTH), place = c / WIDTH * PITCH + c % WIDTH;
                bool there = tile + j < n && c < HD;
                long long at = it.qkv + (long long)(tile + j) * 3 * d + c;
                left[it.slot][j][place] = there ? scale * with_bias(qkv, bias, at, it.first + c) : 0.0f;
                right[it.slot][j][place] = there ? load(d_out, it.out + (long long)(tile + j) * d + c) : 0.0f;
            }
            __syncthreads();
            int end = min(TILE, n - tile);
            for (int j = 0; j < end; j++) {
                const float* query = &left[it.slot][j][it.part * PITCH];
                const float* gradient = &right[it.slot][j][it.part * PITCH];
                float logit = 0.0f, d_p = 0.0f;
#pragma unroll
                for (int w = 0; w < WIDTH; w++) {
                    logit += query[w] * k[w];
                    d_p += gradient[w] * v[w];
                }
                logit = row_sum(logit);
                d_p = row_sum(d_p);
                float p = expf(logit - logs[rows_at + tile + j]);
                float d_logit = p * (d_p - inner[rows_at + tile + j]);
#pragma unroll
                for (int w = 0; w < WIDTH; w++) {
                    d_v[w] += p * gradient[w];
                    d_k[w] += d_logit * query[w];
                }
            }
        }
#pragma unroll
        for (int w = 0; w < WIDTH; w++) {
            int c = it.part * WIDTH + w;
            long long at = it.qkv + (long long)row * 3 * d + c;
            if (live && c < HD) {
                store(d_qkv, at + d, d_k[w]);
                store(d_qkv, at + 2 * d, d_v[w]);
            }
        }
        if (partial) {
            add_columns(d_k, live, it, totals[it.slot][1]);
            add_columns(d_v, live, it, totals[it.slot][2]);
        }
    }
    if (!partial) return;
    __syncthreads();
    long long image = it.lse / n / heads;
    for (int i = it.thread; it.here && i < 3 * HD; i += GROUP) {
        partial[image * 3 * d + i / HD * d + it.first + i % HD] = totals[it.slot][i / HD][i % HD];
    }
}
