// Softmax over rows of `n` values: a warp takes a row.

extern "C" __global__ void softmax_forward(const T* x, T* y, int rows, int n) {
    long long row = warp_row();
    if (row >= rows) return;
    float peak = -__uint_as_float(0x7f800000u);
    for (int i = lane(); i < n; i += 32) {
        float value = load(x, row * n + i);
        peak = (value > peak || value != value) ? value : peak;
    }
    peak = warp_max(peak);
    float sum = 0.0f;
    for (int i = lane(); i < n; i += 32) sum += expf(load(x, row * n + i) - peak);
    float scale = 1.0f / warp_sum(sum);
    for (int i = lane(); i < n; i += 32) store(y, row * n + i, expf(load(x, row * n + i) - peak) * scale);
}

// d_x = y (d_y - sum(d_y y)).
extern "C" __global__ void softmax_backward(const T* y, const T* d_y, T* d_x, int rows, int n) {
    long long row = warp_row();
    if (row >= rows) return;
    float inner = 0.0f;
    for (int i = lane(); i < n; i += 32) inner += load(y, row * n + i) * load(d_y, row * n + i);
    inner = warp_sum(inner);
    for (int i = lane(); i < n; i += 32) {
        store(d_x, row * n + i, load(y, row * n + i) * (load(d_y, row * n + i) - inner));
    }
}
