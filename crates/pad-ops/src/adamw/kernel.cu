// AdamW on values of f32, in the order of operations of the composition.

// A thread takes a value: `moments` (2, count) are the new means of gradients and of their squares.
extern "C" __global__ void adamw_moments(
    const T* gradient, const T* exp_avg, const T* exp_avg_sq, T* moments, int count, float gradient_factor, float toward,
    float beta2, float fresh) {
    long long at = place();
    if (at >= count) return;
    float g = load(gradient, at) * gradient_factor;
    float m = load(exp_avg, at), v = load(exp_avg_sq, at);
    store(moments, at, m + (g - m) * toward);
    store(moments, count + at, v * beta2 + g * fresh * g);
}

extern "C" __global__ void adamw_step(
    const T* p, const T* moments, T* moved, int count, float keep, float step_size, float root_correction, float eps) {
    long long at = place();
    if (at >= count) return;
    float m = load(moments, at), v = load(moments, count + at);
    store(moved, at, load(p, at) * keep - m * step_size / (sqrtf(v) / root_correction + eps));
}

// Many tensors at once. `plan`: for each tensor its number of values and its first chunk; behind them, for each chunk its
// tensor. A block takes a chunk of CHUNK values.
__device__ inline void chunk_of(const unsigned* plan, int tensors, int* tensor, long long* first, long long* end) {
    *tensor = (int)plan[2 * tensors + blockIdx.x];
    long long count = plan[2 * *tensor];
    *first = (long long)(blockIdx.x - plan[2 * *tensor + 1]) * CHUNK;
    *end = *first + CHUNK < count ? *first + CHUNK : count;
}

// The sum over the block's threads, in thread 0: the same order in every launch.
__device__ inline double block_sum(double value) {
    __shared__ double sums[256];
    sums[threadIdx.x] = value;
    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    return sums[0];
}

// `partial` (chunks): the sum of squares of each chunk.
extern "C" __global__ void chunk_squares(
    const unsigned* plan, const unsigned long long* table, double* partial, int tensors) {
    int tensor;
    long long first, end;
    chunk_of(plan, tensors, &tensor, &first, &end);
    const T* values = (const T*)table[tensor];
    double sum = 0.0;
    for (long long at = first + threadIdx.x; at < end; at += blockDim.x) {
        double value = load(values, at);
        sum += value * value;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__device__ inline bool is_finite(double value) { return value - value == 0.0; }

// `squares` (tensors): the sums over the chunks of each tensor, in their order. One block. `verdict` (3), if it is there: the
// norm of all gradients times `factor`; what they are to be multiplied by, `factor` clipped to the norm `max_norm` (0: it is
// not); and 1 if each tensor's norm and all `losses` are finite, else 0.
extern "C" __global__ void gradient_norms(
    const unsigned* plan, const double* partial, const float* losses, double* squares, double* verdict, int tensors, int chunks,
    int loss_count, double factor, double max_norm) {
    for (int tensor = (int)threadIdx.x; tensor < tensors; tensor += (int)blockDim.x) {
        int first = (int)plan[2 * tensor + 1], end = tensor + 1 < tensors ? (int)plan[2 * tensor + 3] : chunks;
        double sum = 0.0;
        for (int chunk = first; chunk < end; chunk++) sum += partial[chunk];
        squares[tensor] = sum;
    }
    __syncthreads();
    if (!verdict || threadIdx.x != 0) return;
    double total = 0.0;
    bool finite = true;
    for (int tensor = 0; tensor < tensors; tensor++) {
        total += squares[tensor];
        finite = finite && is_finite(factor * sqrt(squares[tensor]));
    }
    for (int i = 0; i < loss_count; i++) finite = finite && is_finite(losses[i]);
    double norm = fabs(factor) * sqrt(total), shrink = max_norm / (norm + 1e-6);
    verdict[0] = norm;
    verdict[1] = max_norm > 0.0 && is_finite(norm) && shrink < 1.0 ? factor * shrink : factor;
    verdict[2] = finite ? 1.0 : 0.0;
}

// AdamW for many tensors, in place. `table`: parameter, gradient, both moments of each; `factors` (tensors, 3): keep, step
// size, root of the second moment's correction. With a `verdict` its factor in place of `gradient_factor`, and no step where it
// is not 1. `none` has no values.
extern "C" __global__ void adamw_many(
    const unsigned* plan, const float* factors, const double* verdict, const unsigned long long* table, float* none, int tensors,
    float gradient_factor, float toward, float beta2, float fresh, float eps) {
    if (verdict) {
        if (verdict[2] != 1.0) return;
        gradient_factor = (float)verdict[1];
    }
    int tensor;
    long long first, end;
    chunk_of(plan, tensors, &tensor, &first, &end);
    T* p = (T*)table[4 * tensor];
    const T* gradient = (const T*)table[4 * tensor + 1];
    T* exp_avg = (T*)table[4 * tensor + 2];
    T* exp_avg_sq = (T*)table[4 * tensor + 3];
    float keep = factors[3 * tensor], step_size = factors[3 * tensor + 1], root_correction = factors[3 * tensor + 2];
    for (long long at = first + threadIdx.x; at < end; at += blockDim.x) {
        float g = load(gradient, at) * gradient_factor;
        float m = load(exp_avg, at), v = load(exp_avg_sq, at);
        m = m + (g - m) * toward;
        v = v * beta2 + g * fresh * g;
        store(exp_avg, at, m);
        store(exp_avg_sq, at, v);
        store(p, at, load(p, at) * keep - m * step_size / (sqrtf(v) / root_correction + eps));
    }
}
