// Choice of tokens of `d` values by index, per image. A warp takes a token.

// An index beyond the tokens gives NaN: it cannot be an error here.
extern "C" __global__ void gather_tokens(const T* x, const unsigned* ids, T* y, int images, int n, int k, int d) {
    long long row = warp_row();
    if (row >= (long long)images * k) return;
    unsigned id = ids[row];
    bool there = id < (unsigned)n;
    long long from = (row / k * n + (there ? id : 0)) * d;
    bool whole = d % 4 == 0 && aligned(x) && aligned(y);
    for (int i = 4 * lane(); i < d; i += 128) {
        float four[4];
        load4(x, from + i, d - i, whole, four);
        for (int c = 0; c < 4; c++) four[c] = there ? four[c] : __uint_as_float(0x7fc00000u);
        store4(y, row * d + i, d - i, whole, four);
    }
}

// d_x: for each token the sum over the places that chose it, in their order.
extern "C" __global__ void gather_tokens_backward(
    const T* d_y, const unsigned* ids, T* d_x, int images, int n, int k, int d) {
    long long row = warp_row();
    if (row >= (long long)images * n) return;
    long long image = row / n;
    unsigned token = (unsigned)(row % n);
    bool whole = d % 4 == 0 && aligned(d_y) && aligned(d_x);
    for (int i = 4 * lane(); i < d; i += 128) {
        float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f}, four[4];
        for (int place = 0; place < k; place++) {
            if (ids[image * k + place] != token) continue;
            load4(d_y, (image * k + place) * d + i, d - i, whole, four);
            for (int c = 0; c < 4; c++) sum[c] += four[c];
        }
        store4(d_x, row * d + i, d - i, whole, sum);
    }
}
