//! From luma and colour differences to red, green and blue, as libjpeg does it.

use pad_ops::ImageSize;
use pulp::{Arch, NullaryFnOnce};

use super::plane::Plane;

/// Interleaved RGB of an image of size `size`.
pub(super) fn rgb(luma: &Plane, blue: &Plane, red: &Plane, size: ImageSize) -> Vec<u8> {
    let mut out = vec![0; size.area() * 3];
    let mut rows = [vec![0; size.width + 2], vec![0; size.width + 2]];
    let mut sums = Vec::new();
    for (row, out) in out.chunks_exact_mut(size.width * 3).enumerate() {
        let luma = &luma.samples[row * luma.stride..][..size.width];
        for (upsampled, chroma) in rows.iter_mut().zip([blue, red]) {
            upsample(chroma, size, row, &mut sums, upsampled);
        }
        let [blue, red] = &rows;
        Arch::new().dispatch(Convert { luma, blue, red, out });
    }
    out
}

/// One row of a colour difference in full resolution. Where the resolution is halved, a sample lies
/// between two of the plane (or between four) and weighs the nearer 3 to 1; the roundings
/// alternate, as libjpeg's do.
fn upsample(plane: &Plane, size: ImageSize, row: usize, sums: &mut Vec<i32>, out: &mut [u8]) {
    let chroma_row = |row: usize| &plane.samples[row * plane.stride..][..plane.size.width];
    let halved = |whole: usize, part: usize| part < whole;
    if !halved(size.width, plane.size.width) {
        // Neither is halved (halved rows alone are not decoded here).
        out[..size.width].copy_from_slice(chroma_row(row));
        return;
    }
    let (weight, rounding) = if halved(size.height, plane.size.height) {
        let near = row / 2;
        let far = if row.is_multiple_of(2) { near.saturating_sub(1) } else { near + 1 };
        let far = far.min(plane.size.height - 1);
        let pairs = chroma_row(near).iter().zip(chroma_row(far));
        sums.clear();
        sums.extend(pairs.map(|(&near, &far)| 3 * i32::from(near) + i32::from(far)));
        (4, (8, 7))
    } else {
        sums.clear();
        sums.extend(chroma_row(row).iter().map(|&sample| i32::from(sample)));
        (2, (1, 2))
    };
    let last = sums.len() - 1;
    for (index, pair) in out.chunks_exact_mut(2).take(sums.len()).enumerate() {
        let this = sums[index];
        let at_edge = 4 * this;
        let left = if index == 0 { at_edge } else { 3 * this + sums[index - 1] };
        let right = if index == last { at_edge } else { 3 * this + sums[index + 1] };
        pair[0] = ((left + rounding.0) >> weight) as u8;
        pair[1] = ((right + rounding.1) >> weight) as u8;
    }
}

/// One row to RGB. The factors have 16 bits behind the point.
struct Convert<'a> {
    luma: &'a [u8],
    blue: &'a [u8],
    red: &'a [u8],
    out: &'a mut [u8],
}

impl NullaryFnOnce for Convert<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let samples = self.luma.iter().zip(self.blue).zip(self.red);
        for (out, ((&luma, &blue), &red)) in self.out.as_chunks_mut::<3>().0.iter_mut().zip(samples)
        {
            let (luma, blue, red) = (i32::from(luma), i32::from(blue) - 128, i32::from(red) - 128);
            *out = [
                luma + ((91_881 * red + 32_768) >> 16),
                luma + ((-22_554 * blue - 46_802 * red + 32_768) >> 16),
                luma + ((116_130 * blue + 32_768) >> 16),
            ]
            .map(|level| level.clamp(0, 255) as u8);
        }
    }
}
