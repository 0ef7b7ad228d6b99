// What stands between the products of a half block. X is the type of the residual stream and of all parameters, T that of the
// products' operands and results. Rows have `d` values; a thread takes four values at a time (`load4`). Optional arrays may be
// null.

// Four values of a bias on row-major values of `d` columns, from value `at` on.
__device__ inline void bias4(const X* bias, long long at, int d, int left, bool whole, float* out) {
    if (!bias) {
        for (int k = 0; k < 4; k++) out[k] = 0.0f;
        return;
    }
    // Divisions of 64 bits are slow.
    int column = at >> 32 ? (int)(at % d) : (int)((unsigned)at % (unsigned)d);
    if (whole) {
        load4(bias, column, 4, true, out);
        return;
    }
    for (int k = 0; k < 4; k++) {
        out[k] = k < left ? load(bias, column) : 0.0f;
        if (++column == d) column = 0;
    }
}

// Divisions of 64 bits are slow.
__device__ inline long long quotient(long long a, int b) { return a >> 32 ? a / b : (long long)((unsigned)a / (unsigned)b); }

// What the branch's result in a row is multiplied by beside `gamma`: the factor of its image.
__device__ inline float factor_of(const X* factors, long long row, int tokens) {
    return factors ? load(factors, quotient(row, tokens)) : 1.0f;
}

// Four values of what the branch's result is multiplied by, `gamma` times the factor of the row's image, from value `at` on; 1
// where both are absent.
__device__ inline void scale4(
    const X* gamma, const X* factors, long long at, int d, int tokens, int left, bool whole, float* out) {
    if (gamma) {
        bias4(gamma, at, d, left, whole, out);
    } else {
        for (int k = 0; k < 4; k++) out[k] = 1.0f;
    }
    if (!factors) return;
    // Four values of a row where `whole`.
    float factor = factor_of(factors, quotient(at, d), tokens);
    for (int k = 0; k < left; k++) out[k] *= whole ? factor : factor_of(factors, quotient(at + k, d), tokens);
}

// y = LN(x), and of the same rows a second norm with other weights and eps. `moments` (rows, 3): mean, 1 / sqrt(var + eps) of
// both. A warp takes a row.
extern "C" __global__ void branch_norm(
    const X* x, const X* weight, const X* bias, const X* weight2, const X* bias2, T* y, float* moments, T* y2, int rows, int d,
    float eps, float eps2) {
    long long row = warp_row();
    if (row >= rows) return;
    bool whole = d % 4 == 0 && aligned(x) && aligned(weight) && aligned(bias) && aligned(weight2) && aligned(bias2) &&
                 aligned(y) && aligned(y2);
    float four[4], w[4], b[4], sum = 0.0f;
    for (int i = 4 * lane(); i < d; i += 128) {
        load4(x, row * d + i, d - i, whole, four);
        for (int k = 0; k < 4; k++) sum += four[k];
    }
    float mean = warp_sum(sum) / (float)d, square = 0.0f;
    // In two passes: the one-pass formula cancels.
    for (int i = 4 * lane(); i < d; i += 128) {
        load4(x, row * d + i, d - i, whole, four);
        for (int k = 0; k < 4; k++) square += i + k < d ? (four[k] - mean) * (four[k] - mean) : 0.0f;
    }
    float variance = warp_sum(square) / (float)d;
    float rstd = 1.0f / sqrtf(variance + eps), rstd2 = 1.0f / sqrtf(variance + eps2);
    for (int i = 4 * lane(); i < d; i += 128) {
        float normed[4];
        load4(x, row * d + i, d - i, whole, four);
        load4(weight, i, d - i, whole, w);
        load4(bias, i, d - i, whole, b);
        for (int k = 0; k < 4; k++) normed[k] = (four[k] - mean) * rstd * w[k] + b[k];
        store4(y, row * d + i, d - i, whole, normed);
        if (!weight2) continue;
        load4(weight2, i, d - i, whole, w);
        load4(bias2, i, d - i, whole, b);
        for (int k = 0; k < 4; k++) normed[k] = (four[k] - mean) * rstd2 * w[k] + b[k];
        store4(y2, row * d + i, d - i, whole, normed);
    }
    if (moments && lane() == 0) {
        moments[3 * row] = mean;
        moments[3 * row + 1] = rstd;
        moments[3 * row + 2] = rstd2;
    }
}

// d_x = d_residual + the gradients through one or both norms of a row: with n = (x - mean) rstd and g = d_y weight each
// rstd (g - mean(g) - n mean(g n)). A warp takes the row.
__device__ inline void norm_backward_row(
    const X* x, const X* weight, const T* d_y, const X* weight2, const T* d_y2, const X* d_residual, const float* moments,
    X* d_x, long long row, int d) {
    bool whole = d % 4 == 0 && aligned(x) && aligned(weight) && aligned(d_y) && aligned(weight2) && aligned(d_y2) &&
                 aligned(d_residual) && aligned(d_x);
    float mean = moments[3 * row], rstd = moments[3 * row + 1], rstd2 = moments[3 * row + 2];
    float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f}, four[4], w[4], g[4];
    for (int i = 4 * lane(); i < d; i += 128) {
        load4(x, row * d + i, d - i, whole, four);
        if (d_y) {
            load4(weight, i, d - i, whole, w);
            load4(d_y, row * d + i, d - i, whole, g);
            for (int k = 0; k < 4; k++) {
                sums[0] += g[k] * w[k];
                sums[1] += g[k] * w[k] * (four[k] - mean) * rstd;
            }
        }
        if (d_y2) {
            load4(weight2, i, d - i, whole, w);
            load4(d_y2, row * d + i, d - i, whole, g);
            for (int k = 0; k < 4; k++) {
                sums[2] += g[k] * w[k];
                sums[3] += g[k] * w[k] * (four[k] - mean) * rstd2;
            }
        }
    }
    for (int k = 0; k < 4; k++) sums[k] = warp_sum(sums[k]) / (float)d;
    for (int i = 4 * lane(); i < d; i += 128) {
        float total[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        load4(x, row * d + i, d - i, whole, four);
        if (d_residual) load4(d_residual, row * d + i, d - i, whole, total);
        if (d_y) {
            load4(weight, i, d - i, whole, w);
            load4(d_y, row * d + i, d - i, whole, g);
            for (int k = 0; k < 4; k++) total[k] += rstd * (g[k] * w[k] - sums[0] - (four[k] - mean) * rstd * sums[1]);
        }
        if (d_y2) {
            load4(weight2, i, d - i, whole, w);
            load4(d_y2, row * d + i, d - i, whole, g);
            for (int k = 0; k < 4; k++) total[k] += rstd2 * (g[k] * w[k] - sums[2] - (four[k] - mean) * rstd2 * sums[3]);
        }
        store4(d_x, row * d + i, d - i, whole, total);
    }
}

extern "C" __global__ void branch_norm_backward(
    const X* x, const X* weight, const T* d_y, const X* weight2, const T* d_y2, const X* d_residual, const float* moments,
    X* d_x, int rows, int d) {
    long long row = warp_row();
    if (row < rows) norm_backward_row(x, weight, d_y, weight2, d_y2, d_residual, moments, d_x, row, d);
}

// Adds the sums of d_y n and of d_y over rows `first` to `end` to `sums` (2, d).
__device__ inline void add_affine(
    const X* x, const T* d_y, const float* moments, int which, long long first, long long end, int d, float* sums) {
    bool whole = d % 4 == 0 && aligned(x) && aligned(d_y);
    for (int i = 4 * (int)threadIdx.x; i < d; i += 4 * (int)blockDim.x) {
        float weight_sums[4] = {0.0f, 0.0f, 0.0f, 0.0f}, bias_sums[4] = {0.0f, 0.0f, 0.0f, 0.0f}, four[4], g[4];
        for (long long row = first; row < end; row++) {
            float mean = moments[3 * row], rstd = moments[3 * row + which];
            load4(x, row * d + i, d - i, whole, four);
            load4(d_y, row * d + i, d - i, whole, g);
            for (int k = 0; k < 4; k++) {
                weight_sums[k] += g[k] * (four[k] - mean) * rstd;
                bias_sums[k] += g[k];
            }
        }
        for (int k = 0; k < 4 && i + k < d; k++) {
            sums[i + k] += weight_sums[k];
            sums[d + i + k] += bias_sums[k];
        }
    }
}

// The same, and the gradients of the norms' weights and biases: of the first where `sums1`, of the second where `sums2`.
// `partial` (chunks, 2 d or 4 d): sums of d_y n and of d_y over a chunk of rows. A block takes a chunk, eight rows at a time: a
// warp each, then for the sums a thread some columns, of what the warps have just read.
extern "C" __global__ void branch_norm_backward_and_sum(
    const X* x, const X* weight, const T* d_y, const X* weight2, const T* d_y2, const X* d_residual, const float* moments,
    X* d_x, float* partial, int rows, int d, int chunks, int sums1, int sums2) {
    __shared__ float sums[NORM_SUMS];
    int width = 2 * d * (sums1 + sums2), per_chunk = (rows + chunks - 1) / chunks;
    for (int i = (int)threadIdx.x; i < width; i += (int)blockDim.x) sums[i] = 0.0f;
    __syncthreads();
    long long first = (long long)blockIdx.x * per_chunk, end = first + per_chunk < rows ? first + per_chunk : rows;
    for (long long eight = first; eight < end; eight += 8) {
        long long row = eight + threadIdx.x / 32, last = eight + 8 < end ? eight + 8 : end;
        if (row < end) norm_backward_row(x, weight, d_y, weight2, d_y2, d_residual, moments, d_x, row, d);
        // A column is the same thread's each time.
        if (sums1) add_affine(x, d_y, moments, 1, eight, last, d, sums);
        if (sums2) add_affine(x, d_y2, moments, 2, eight, last, d, sums + (sums1 ? 2 * d : 0));
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < width; i += (int)blockDim.x) partial[(long long)blockIdx.x * width + i] = sums[i];
}

// Rows of a chunk of all rows, for sums over rows: the same chunks for the same number of rows.
struct Chunk { int tile, chunk, warp, column; long long first, end; };

__device__ inline Chunk chunk_of(int rows, int columns, int chunks) {
    int tiles = (columns + 31) / 32, per_chunk = (rows + chunks - 1) / chunks;
    Chunk it;
    it.tile = (int)(blockIdx.x % tiles);
    it.chunk = (int)(blockIdx.x / tiles);
    it.warp = (int)(threadIdx.x / 32);
    it.column = it.tile * 32 + lane();
    it.first = (long long)it.chunk * per_chunk;
    it.end = it.first + per_chunk < rows ? it.first + per_chunk : rows;
    return it;
}

// The sum over the block's eight warps, in the order of warps, in the first of them.
__device__ inline float warps_sum(float value) {
    __shared__ float sums[8][32];
    __syncthreads();
    sums[threadIdx.x / 32][lane()] = value;
    __syncthreads();
    float sum = 0.0f;
    for (int i = 0; i < 8; i++) sum += sums[i][lane()];
    return sum;
}

// `partial` (chunks, columns): sums over a chunk of rows. A block takes 32 columns of a chunk; its warps take rows in turn.
extern "C" __global__ void branch_sum_rows(const T* d_y, float* partial, int rows, int columns, int chunks) {
    Chunk it = chunk_of(rows, columns, chunks);
    float sum = 0.0f;
    for (long long row = it.first + it.warp; it.column < columns && row < it.end; row += 8) {
        sum += load(d_y, row * columns + it.column);
    }
    sum = warps_sum(sum);
    if (it.warp == 0 && it.column < columns) partial[(long long)it.chunk * columns + it.column] = sum;
}

// `partial` (chunks, 2 d): sums of d_y n and of d_y, the gradients of a norm's weight and bias. `which`: 1 the first norm of
// `moments`, 2 the second.
extern "C" __global__ void branch_sum_affine(
    const X* x, const T* d_y, const float* moments, float* partial, int rows, int d, int chunks, int which) {
    Chunk it = chunk_of(rows, d, chunks);
    float weight_sum = 0.0f, bias_sum = 0.0f;
    for (long long row = it.first + it.warp; it.column < d && row < it.end; row += 8) {
        float g = load(d_y, row * d + it.column);
        weight_sum += g * (load(x, row * d + it.column) - moments[3 * row]) * moments[3 * row + which];
        bias_sum += g;
    }
    weight_sum = warps_sum(weight_sum);
    bias_sum = warps_sum(bias_sum);
    if (it.warp == 0 && it.column < d) {
        partial[(long long)it.chunk * 2 * d + it.column] = weight_sum;
        partial[(long long)it.chunk * 2 * d + d + it.column] = bias_sum;
    }
}

// What gradients of parameters end with. `sums` (n0 + n1 + n2 + n3): up to four arrays (chunks, n) summed over their chunks;
// a block takes 32 columns, its warps chunks in turn. And two products from T to X by the blocks behind those; each may have no
// values.
extern "C" __global__ void branch_gradients(
    const float* partial0, const float* partial1, const float* partial2, const float* partial3, const T* a, const T* b, X* sums,
    X* to_a, X* to_b, int chunks0, int chunks1, int chunks2, int chunks3, int n0, int n1, int n2, int n3, int a_count,
    int b_count) {
    int all = n0 + n1 + n2 + n3, of_sums = (all + 31) / 32;
    if ((int)blockIdx.x < of_sums) {
        int column = (int)blockIdx.x * 32 + lane();
        const float* partial = partial0;
        int at = column, n = n0, chunks = chunks0;
        if (at >= n) { at -= n; partial = partial1; n = n1; chunks = chunks1;
            if (at >= n) { at -= n; partial = partial2; n = n2; chunks = chunks2;
                if (at >= n) { at -= n; partial = partial3; n = n3; chunks = chunks3; } } }
        float sum = 0.0f;
        for (int chunk = (int)threadIdx.x / 32; column < all && chunk < chunks; chunk += 8) {
            sum += partial[(long long)chunk * n + at];
        }
        sum = warps_sum(sum);
        if (threadIdx.x < 32 && column < all) store(sums, column, sum);
        return;
    }
    long long at = 4 * ((long long)(blockIdx.x - of_sums) * blockDim.x + threadIdx.x), first = ((long long)a_count + 3) / 4 * 4;
    bool second = at >= first;
    long long from = second ? at - first : at, count = second ? b_count : a_count;
    if (from >= count) return;
    int left = count - from < 4 ? (int)(count - from) : 4;
    const T* values = second ? b : a;
    X* to = second ? to_b : to_a;
    bool whole = left == 4 && aligned(values) && aligned(to);
    float four[4];
    load4(values, from, left, whole, four);
    store4(to, from, left, whole, four);
}

// y = x + scale (t + bias), scale being gamma times the factor of a row's image.
extern "C" __global__ void branch_tail(
    const X* x, const T* t, const X* bias, const X* gamma, const X* factors, X* y, int rows, int d, int tokens) {
    long long at = 4 * place(), count = (long long)rows * d;
    if (at >= count) return;
    bool whole = d % 4 == 0 && aligned(x) && aligned(t) && aligned(bias) && aligned(gamma) && aligned(y);
    int left = count - at < 4 ? (int)(count - at) : 4;
    float a[4], b[4], c[4], s[4];
    load4(x, at, left, whole, a);
    load4(t, at, left, whole, b);
    bias4(bias, at, d, left, whole, c);
    scale4(gamma, factors, at, d, tokens, left, whole, s);
    for (int k = 0; k < 4; k++) a[k] += s[k] * (b[k] + c[k]);
    store4(y, at, left, whole, a);
}

// The gradient to the branch's result: scale d_y, in T.
extern "C" __global__ void branch_scaled(
    const X* d_y, const X* gamma, const X* factors, T* d_t, int rows, int d, int tokens) {
    long long at = 4 * place(), count = (long long)rows * d;
    if (at >= count) return;
    bool whole = d % 4 == 0 && aligned(d_y) && aligned(gamma) && aligned(d_t);
    int left = count - at < 4 ? (int)(count - at) : 4;
    float a[4], s[4];
    load4(d_y, at, left, whole, a);
    scale4(gamma, factors, at, d, tokens, left, whole, s);
    for (int k = 0; k < 4; k++) a[k] *= s[k];
    store4(d_t, at, left, whole, a);
}

// `partial` (chunks, columns): sums of factor d_y (t + bias) over a chunk of rows, the gradient of gamma.
extern "C" __global__ void branch_sum_gamma(
    const X* d_y, const T* t, const X* bias, const X* factors, float* partial, int rows, int columns, int chunks, int tokens) {
    Chunk it = chunk_of(rows, columns, chunks);
    float b = it.column < columns && bias ? load(bias, it.column) : 0.0f, sum = 0.0f;
    for (long long row = it.first + it.warp; it.column < columns && row < it.end; row += 8) {
        long long at = row * columns + it.column;
        sum += factor_of(factors, row, tokens) * load(d_y, at) * (load(t, at) + b);
    }
    sum = warps_sum(sum);
    if (it.warp == 0 && it.column < columns) partial[(long long)it.chunk * columns + it.column] = sum;
}

// Two arrays from X to T; the second may have no values.
extern "C" __global__ void branch_narrow(const X* a, const X* b, T* to_a, T* to_b, int a_count, int b_count) {
    long long at = 4 * place(), first = ((long long)a_count + 3) / 4 * 4;
    bool second = at >= first;
    long long from = second ? at - first : at, count = second ? b_count : a_count;
    if (from >= count) return;
    int left = count - from < 4 ? (int)(count - from) : 4;
    const X* values = second ? b : a;
    T* to = second ? to_b : to_a;
    bool whole = left == 4 && aligned(values) && aligned(to);
    float four[4];
    load4(values, from, left, whole, four);
    store4(to, from, left, whole, four);
}

// `branch_scaled`, and `partial` (chunks, columns): the sums of scale d_y over a chunk of rows.
extern "C" __global__ void branch_scaled_and_sum(
    const X* d_y, const X* gamma, const X* factors, T* d_t, float* partial, int rows, int columns, int chunks, int tokens) {
    Chunk it = chunk_of(rows, columns, chunks);
    float scale = it.column < columns && gamma ? load(gamma, it.column) : 1.0f, sum = 0.0f;
    for (long long row = it.first + it.warp; it.column < columns && row < it.end; row += 8) {
        float value = scale * factor_of(factors, row, tokens) * load(d_y, row * columns + it.column);
        store(d_t, row * columns + it.column, value);
        sum += value;
    }
    sum = warps_sum(sum);
    if (it.warp == 0 && it.column < columns) partial[(long long)it.chunk * columns + it.column] = sum;
}

// out = GELU(hidden + bias).
extern "C" __global__ void branch_gelu(const T* hidden, const X* bias, T* out, int rows, int d) {
    long long at = 4 * place(), count = (long long)rows * d;
    if (at >= count) return;
    bool whole = d % 4 == 0 && aligned(hidden) && aligned(bias) && aligned(out);
    int left = count - at < 4 ? (int)(count - at) : 4;
    float h[4], b[4];
    load4(hidden, at, left, whole, h);
    bias4(bias, at, d, left, whole, b);
    for (int k = 0; k < 4; k++) {
        float value = h[k] + b[k];
        h[k] = value * normal_cdf(value);
    }
    store4(out, at, left, whole, h);
}

// d_hidden = d_out GELU'(hidden + bias).
extern "C" __global__ void branch_gelu_backward(
    const T* hidden, const X* bias, const T* d_out, T* d_hidden, int rows, int d) {
    long long at = 4 * place(), count = (long long)rows * d;
    if (at >= count) return;
    bool whole = d % 4 == 0 && aligned(hidden) && aligned(bias) && aligned(d_out) && aligned(d_hidden);
    int left = count - at < 4 ? (int)(count - at) : 4;
    float h[4], b[4], g[4];
    load4(hidden, at, left, whole, h);
    bias4(bias, at, d, left, whole, b);
    load4(d_out, at, left, whole, g);
    for (int k = 0; k < 4; k++) {
        float value = h[k] + b[k];
        float density = 0.39894228040143268f * expf(-0.5f * value * value);
        g[k] *= normal_cdf(value) + value * density;
    }
    store4(d_hidden, at, left, whole, g);
}

// The same, and `partial` (chunks, columns): the sums of d_hidden over a chunk of rows.
extern "C" __global__ void branch_gelu_backward_and_sum(
    const T* hidden, const X* bias, const T* d_out, T* d_hidden, float* partial, int rows, int columns, int chunks) {
    Chunk it = chunk_of(rows, columns, chunks);
    float b = it.column < columns && bias ? load(bias, it.column) : 0.0f, sum = 0.0f;
    for (long long row = it.first + it.warp; it.column < columns && row < it.end; row += 8) {
        long long at = row * columns + it.column;
        float value = load(hidden, at) + b;
        float density = 0.39894228040143268f * expf(-0.5f * value * value);
        float g = load(d_out, at) * (normal_cdf(value) + value * density);
        store(d_hidden, at, g);
        sum += g;
    }
    sum = warps_sum(sum);
    if (it.warp == 0 && it.column < columns) partial[(long long)it.chunk * columns + it.column] = sum;
}

// out = dropout(ReLU(z + bias)); `drops`: whether the mask is drawn, from the key's stream as in `dropout`. A thread takes the
// 16 values that one block of the stream is for.
extern "C" __global__ void branch_bottleneck(
    const T* z, const X* bias, T* out, int count, int width, int drops, int k0, int k1, int k2, int k3, int k4, int k5, int k6,
    int k7, int threshold, float kept) {
    long long block = place();
    if (block * 16 >= count) return;
    unsigned drawn[16];
    if (drops) draw(block, k0, k1, k2, k3, k4, k5, k6, k7, drawn);
    for (int i = 0; i < 16; i++) {
        long long at = block * 16 + i;
        if (at >= count) return;
        float value = load(z, at) + (bias ? load(bias, at % width) : 0.0f);
        value = value > 0.0f || value != value ? value : 0.0f;
        if (drops) value *= drawn[i] < (unsigned)threshold ? 0.0f : kept;
        store(out, at, value);
    }
}

// d_z = d_out times what the mask multiplied by; where the result is 0 no gradient passes.
extern "C" __global__ void branch_bottleneck_backward(const T* out, const T* d_out, T* d_z, int count, float kept) {
    long long at = 4 * place();
    if (at >= count) return;
    int left = count - at < 4 ? (int)(count - at) : 4;
    bool whole = left == 4 && aligned(out) && aligned(d_out) && aligned(d_z);
    float o[4], g[4];
    load4(out, at, left, whole, o);
    load4(d_out, at, left, whole, g);
    for (int k = 0; k < 4; k++) g[k] = o[k] == 0.0f ? 0.0f : kept * g[k];
    store4(d_z, at, left, whole, g);
}

// The scale of a token: `fixed`; or the trained number `scale`; or sigmoid(gate . [mlp; a]), where the gate's weights for the
// MLP's output and for the adapter's begin at `mlp_at` and `adapter_at` (-1: it does not look there).
__device__ inline float strength(
    const T* mlp, const X* mlp_bias, const T* a, const X* a_bias, const X* gate, const X* scale, float fixed, long long row, int d,
    int mlp_at, int adapter_at) {
    if (scale) return load(scale, 0);
    if (!gate) return fixed;
    float logit = 0.0f;
    for (int i = lane(); i < d; i += 32) {
        float m = load(mlp, row * d + i) + (mlp_bias ? load(mlp_bias, i) : 0.0f);
        float v = load(a, row * d + i) + (a_bias ? load(a_bias, i) : 0.0f);
        if (mlp_at >= 0) logit += load(gate, mlp_at + i) * m;
        if (adapter_at >= 0) logit += load(gate, adapter_at + i) * v;
    }
    return 1.0f / (1.0f + expf(-warp_sum(logit)));
}

// y = x + factor gamma (mlp + bias) + s (a + bias). A warp takes a row.
extern "C" __global__ void branch_adapted_tail(
    const X* x, const T* mlp, const X* mlp_bias, const T* a, const X* a_bias, const X* gate, const X* scale, const X* gamma,
    const X* factors, X* y, int rows, int d, int mlp_at, int adapter_at, float fixed, int tokens) {
    long long row = warp_row();
    if (row >= rows) return;
    float s = strength(mlp, mlp_bias, a, a_bias, gate, scale, fixed, row, d, mlp_at, adapter_at);
    float factor = factor_of(factors, row, tokens);
    for (int i = lane(); i < d; i += 32) {
        float m = load(mlp, row * d + i) + (mlp_bias ? load(mlp_bias, i) : 0.0f);
        float v = load(a, row * d + i) + (a_bias ? load(a_bias, i) : 0.0f);
        m *= gamma ? factor * load(gamma, i) : factor;
        store(y, row * d + i, load(x, row * d + i) + m + s * v);
    }
}

// d_mlp = factor gamma d_y + d_logit gate_mlp; d_a = s d_y + d_logit gate_adapter; `marks` (rows, 2): s, and with a gate
// d_logit = s (1 - s) (d_y . a), with a trained number d_y . a.
extern "C" __global__ void branch_adapted_tail_backward(
    const T* mlp, const X* mlp_bias, const T* a, const X* a_bias, const X* gate, const X* scale, const X* gamma,
    const X* factors, const X* d_y, T* d_mlp, T* d_a, float* marks, int rows, int d, int mlp_at, int adapter_at, float fixed,
    int tokens) {
    long long row = warp_row();
    if (row >= rows) return;
    float factor = factor_of(factors, row, tokens);
    float s = strength(mlp, mlp_bias, a, a_bias, gate, scale, fixed, row, d, mlp_at, adapter_at);
    float mark = 0.0f;
    if (gate || scale) {
        for (int i = lane(); i < d; i += 32) {
            mark += load(d_y, row * d + i) * (load(a, row * d + i) + (a_bias ? load(a_bias, i) : 0.0f));
        }
        mark = warp_sum(mark);
        if (gate) mark *= s * (1.0f - s);
    }
    float through = gate ? mark : 0.0f;
    for (int i = lane(); i < d; i += 32) {
        float g = load(d_y, row * d + i);
        float to_mlp = (gamma ? factor * load(gamma, i) : factor) * g, to_a = s * g;
        if (gate && mlp_at >= 0) to_mlp += through * load(gate, mlp_at + i);
        if (gate && adapter_at >= 0) to_a += through * load(gate, adapter_at + i);
        store(d_mlp, row * d + i, to_mlp);
        store(d_a, row * d + i, to_a);
    }
    if (lane() == 0) {
        marks[2 * row] = s;
        marks[2 * row + 1] = mark;
    }
}

// `partial` (chunks, width + d): sums of d_logit mlp at `mlp_at`, of d_logit a at `adapter_at`; where both are the same place,
// of their sum; and behind them of d_a.
extern "C" __global__ void branch_sum_gate(
    const T* mlp, const X* mlp_bias, const T* a, const X* a_bias, const T* d_a, const float* marks, float* partial, int rows,
    int d, int chunks, int mlp_at, int adapter_at, int width) {
    Chunk it = chunk_of(rows, d, chunks);
    float m_bias = it.column < d && mlp_bias ? load(mlp_bias, it.column) : 0.0f;
    float v_bias = it.column < d && a_bias ? load(a_bias, it.column) : 0.0f;
    float mlp_sum = 0.0f, a_sum = 0.0f, d_a_sum = 0.0f;
    for (long long row = it.first + it.warp; it.column < d && row < it.end; row += 8) {
        float mark = marks[2 * row + 1];
        if (mlp_at >= 0) mlp_sum += mark * (load(mlp, row * d + it.column) + m_bias);
        if (adapter_at >= 0) a_sum += mark * (load(a, row * d + it.column) + v_bias);
        d_a_sum += load(d_a, row * d + it.column);
    }
    mlp_sum = warps_sum(mlp_sum);
    a_sum = warps_sum(a_sum);
    d_a_sum = warps_sum(d_a_sum);
    if (it.warp != 0 || it.column >= d) return;
    float* sums = partial + (long long)it.chunk * (width + d);
    if (mlp_at == adapter_at) {
        sums[mlp_at + it.column] = mlp_sum + a_sum;
    } else {
        if (mlp_at >= 0) sums[mlp_at + it.column] = mlp_sum;
        if (adapter_at >= 0) sums[adapter_at + it.column] = a_sum;
    }
    sums[width + it.column] = d_a_sum;
}

// `partial` (chunks): sums of the rows' second marks.
extern "C" __global__ void branch_sum_marks(const float* marks, float* partial, int rows, int chunks) {
    Chunk it = chunk_of(rows, 1, chunks);
    float sum = 0.0f;
    for (long long row = it.first + threadIdx.x; row < it.end; row += blockDim.x) sum += marks[2 * row + 1];
    sum = warps_sum(sum);
    if (it.warp != 0) return;
    sum = warp_sum(sum);
    if (lane() == 0) partial[it.chunk] = sum;
}
