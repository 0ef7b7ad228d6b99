// GELU, the exact one: x Phi(x).

__device__ inline float normal_cdf(float x) { return 0.5f * erfcf(-x * 0.70710678118654752f); }

extern "C" __global__ void gelu_forward(const T* x, T* y, int count) {
    long long at = place();
    if (at >= count) return;
    float value = load(x, at);
    store(y, at, value * normal_cdf(value));
}

// d_x = d_y (Phi(x) + x phi(x)).
extern "C" __global__ void gelu_backward(const T* x, const T* d_y, T* d_x, int count) {
    long long at = place();
    if (at >= count) return;
    float value = load(x, at);
    float density = 0.39894228040143268f * expf(-0.5f * value * value);
    store(d_x, at, load(d_y, at) * (normal_cdf(value) + value * density));
}
