// RoIAlign on one map of (images, channels, height, width). A record a region of 1 + 4 + 3 (rows + columns) numbers: its
// image; the first row it touches and the one behind the last, columns alike; then for each row of bins and each column of
// bins: the first pixel, how many, and where their weights begin in `weights`.

__device__ inline int record_size(int rows, int columns) { return 5 + 3 * (rows + columns); }

// A thread takes a value of `y` (regions, channels, rows, columns).
extern "C" __global__ void roi_align_forward(
    const T* map, const unsigned* records, const float* weights, T* y, int count, int channels, int height, int width,
    int rows, int columns) {
    long long at = place();
    if (at >= count) return;
    int column = (int)(at % columns), row = (int)(at / columns % rows);
    int channel = (int)(at / columns / rows % channels);
    const unsigned* record = records + at / columns / rows / channels * record_size(rows, columns);
    const unsigned* down = record + 5 + 3 * row;
    const unsigned* across = record + 5 + 3 * (rows + column);
    long long plane = ((long long)record[0] * channels + channel) * height;
    float sum = 0.0f;
    for (unsigned i = 0; i < down[1]; i++) {
        float line = 0.0f;
        for (unsigned j = 0; j < across[1]; j++) {
            line += weights[across[2] + j] * load(map, (plane + down[0] + i) * width + across[0] + j);
        }
        sum += weights[down[2] + i] * line;
    }
    store(y, at, sum);
}

// A thread takes a pixel of `d_map` and adds what regions send to it, in their order: no atomic additions, so the same bits
// every time.
extern "C" __global__ void roi_align_backward(
    const T* d_y, const unsigned* records, const float* weights, T* d_map, int count, int channels, int height, int width,
    int rows, int columns, int regions) {
    long long at = place();
    if (at >= count) return;
    unsigned x = (unsigned)(at % width), y = (unsigned)(at / width % height);
    int channel = (int)(at / width / height % channels);
    unsigned image = (unsigned)(at / width / height / channels);
    float sum = 0.0f;
    for (int region = 0; region < regions; region++) {
        const unsigned* record = records + (long long)region * record_size(rows, columns);
        if (record[0] != image || y < record[1] || y >= record[2] || x < record[3] || x >= record[4]) continue;
        long long from = ((long long)region * channels + channel) * rows * columns;
        for (int row = 0; row < rows; row++) {
            const unsigned* down = record + 5 + 3 * row;
            if (y < down[0] || y - down[0] >= down[1]) continue;
            float line = 0.0f;
            for (int column = 0; column < columns; column++) {
                const unsigned* across = record + 5 + 3 * (rows + column);
                if (x < across[0] || x - across[0] >= across[1]) continue;
                line += weights[across[2] + x - across[0]] * load(d_y, from + row * columns + column);
            }
            sum += weights[down[2] + y - down[0]] * line;
        }
    }
    store(d_map, at, sum);
}
