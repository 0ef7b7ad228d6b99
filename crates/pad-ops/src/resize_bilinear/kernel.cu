// Bilinear resizing of planes. `places`: for each row of the result the two rows it reads, columns alike; then for each row of
// the image the first row of the result that reads it and the one behind the last, columns alike. `weights`: that of the second
// of the two, for each row and each column of the result.

// A thread takes a value of `y` (planes, to_rows, to_columns).
extern "C" __global__ void resize_forward(
    const T* x, const unsigned* places, const float* weights, T* y, int count, int rows, int columns, int to_rows,
    int to_columns) {
    long long at = place();
    if (at >= count) return;
    int column = (int)(at % to_columns), row = (int)(at / to_columns % to_rows);
    const unsigned* down = places + 2 * row;
    const unsigned* across = places + 2 * (to_rows + column);
    float lower = weights[row], right = weights[to_rows + column];
    long long plane = at / to_columns / to_rows * rows;
    long long first = (plane + down[0]) * columns, second = (plane + down[1]) * columns;
    float left_mixed = (1.0f - lower) * load(x, first + across[0]) + lower * load(x, second + across[0]);
    float right_mixed = (1.0f - lower) * load(x, first + across[1]) + lower * load(x, second + across[1]);
    store(y, at, (1.0f - right) * left_mixed + right * right_mixed);
}

// What sample `i` of an axis takes of place `at`.
__device__ inline float share(const unsigned* taps, const float* weights, int i, int at) {
    float taken = 0.0f;
    if ((int)taps[2 * i] == at) taken += 1.0f - weights[i];
    if ((int)taps[2 * i + 1] == at) taken += weights[i];
    return taken;
}

// A thread takes a pixel of `d_x` and adds what the values that read it send back, in their order: no atomic additions.
extern "C" __global__ void resize_backward(
    const T* d_y, const unsigned* places, const float* weights, T* d_x, int count, int rows, int columns, int to_rows,
    int to_columns) {
    long long at = place();
    if (at >= count) return;
    int column = (int)(at % columns), row = (int)(at / columns % rows);
    const unsigned* readers = places + 2 * (to_rows + to_columns);
    const unsigned* down = readers + 2 * row;
    const unsigned* across = readers + 2 * (rows + column);
    long long plane = at / columns / rows * to_rows;
    float sum = 0.0f;
    for (int i = (int)down[0]; i < (int)down[1]; i++) {
        float line = 0.0f;
        for (int j = (int)across[0]; j < (int)across[1]; j++) {
            line += share(places + 2 * to_rows, weights + to_rows, j, column) * load(d_y, (plane + i) * to_columns + j);
        }
        sum += share(places, weights, i, row) * line;
    }
    store(d_x, at, sum);
}
