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
