// Values of 8-bit levels.

struct __align__(4) Levels { unsigned char v[4]; };

// y = tables[channel][level]; `levels` (images, channels, area), `tables` (channels, 256). A thread takes four values.
extern "C" __global__ void look_up_levels(
    const unsigned char* levels, const float* tables, T* y, int count, int channels, int area) {
    long long at = 4 * place();
    if (at >= count) return;
    int left = count - at < 4 ? (int)(count - at) : 4;
    bool whole = left == 4 && (unsigned long long)levels % 4 == 0 && aligned(y);
    unsigned plane = (unsigned)at / (unsigned)area, within = (unsigned)at % (unsigned)area;
    Levels four;
    if (whole) four = *(const Levels*)(levels + at);
    float out[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int k = 0; k < left; k++) {
        unsigned char level = whole ? four.v[k] : levels[at + k];
        out[k] = tables[plane % (unsigned)channels * 256 + level];
        if (++within == (unsigned)area) {
            within = 0;
            plane++;
        }
    }
    store4(y, at, left, whole, out);
}
