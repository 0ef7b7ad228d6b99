//! Pictures of results: images side by side, heat maps over patches, boxes.

mod boxes;
mod classes;
mod color;
mod heat;
mod rois;
mod text;

use std::{io, path::Path};

use ::image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use candle_core::{DType, Tensor};
use pad_ops::{ImageSize, fs::write_atomic};

pub use self::{
    boxes::DrawnBox,
    classes::{ClassShare, ImageClasses, save_class_png},
    color::Color,
    heat::heat,
};
use self::{color::to_level, heat::share};
use crate::{
    Error, Result,
    image::{Image, MAX_CHANNELS, Pixels},
    rect::Rect,
    rle::Rle,
    transform::Normalize,
    window::Window,
};

/// A picture of 8-bit RGB pixels to draw on. Everything outside is clipped.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_data::{ImageSize, draw::Canvas, image::{Image, Pixels}, rect::Rect, rle::Rle};
/// use pad_data::{transform::Normalize, window::Window};
/// let size = ImageSize::new(2, 2);
/// let counts = Image::new(size, 1, Pixels::U16(vec![7000, 7100, 7200, 7300]))?;
/// let window = Window::Fixed { low: 7000.0, high: 7300.0 };
/// let mut picture = Canvas::from_image(&counts, Some(&window))?;
/// assert_eq!((picture.pixel(0, 0), picture.pixel(1, 1)), (Some([0; 3]), Some([255; 3])));
/// // Masks, heat, removed patches and boxes over it.
/// let mask = Rle::within(size, Rect::from_xywh(0, 0, 1, 1), |_, _| true)?;
/// picture.overlay_mask(&mask, [200, 0, 0], 1.0)?;
/// assert_eq!(picture.pixel(0, 0), Some([200, 0, 0]));
/// picture.overlay_heat(ImageSize::square(1), &[f32::NAN], (0.0, 1.0), 0.5)?; // NaN: unchanged
/// picture.cover_patches(size, &[false, true, false, false], [0, 0, 9])?;
/// assert_eq!(picture.pixel(0, 1), Some([0, 0, 9]));
/// // Larger, side by side, saved.
/// let mut large = picture.enlarged(8);
/// large.outline([2.0, 2.0, 9.0, 9.0], [0, 255, 0], 1);
/// assert_eq!((large.size(), large.pixel(2, 2)), (ImageSize::square(16), Some([0, 255, 0])));
/// large.paste(&picture, 0, 0);
/// let heat = Canvas::from_heat(ImageSize::new(1, 2), &[0.0, f32::NAN], (0.0, 1.0))?;
/// assert_eq!(heat.pixel(0, 1), Some([0; 3]));
/// let sheet = Canvas::tiled(&[vec![large, heat.stretched(ImageSize::square(16))]], 2, [255; 3]);
/// assert_eq!(sheet.size().width, 16 + 2 + 16);
/// let folder = tempfile::tempdir().unwrap();
/// sheet.save_png(folder.path().join("sheet.png"))?;
/// // The input of a network, back to levels.
/// let input = Tensor::zeros((1, 4, 4), DType::F32, &Device::Cpu)?;
/// assert_eq!(Canvas::from_tensor(&input, &Normalize::imagenet())?.size(), ImageSize::square(4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canvas {
    size: ImageSize,
    pixels: Vec<Color>,
}

impl Canvas {
    /// Returns a canvas of one colour.
    pub fn new(size: ImageSize, color: Color) -> Self {
        Self { size, pixels: vec![color; size.area()] }
    }

    /// Converts an image: 8 bits unchanged, counts and kelvin through `window`. Floats are levels
    /// of 0 to 255 if `window` is `None`. Grey is repeated over the channels.
    ///
    /// # Errors
    /// [`Error::Setting`] for an invalid window, and for 16-bit counts without a window.
    pub fn from_image(image: &Image, window: Option<&Window>) -> Result<Self> {
        let image = match window {
            Some(window) => window.apply(image.clone())?,
            None => image.clone(),
        };
        let size = image.size();
        let pixels = match image.to_rgb().into_pixels() {
            Pixels::U8(levels) => levels.as_chunks().0.to_vec(),
            Pixels::F32(levels) => {
                levels.as_chunks().0.iter().map(|&rgb: &[f32; 3]| rgb.map(to_level)).collect()
            }
            Pixels::U16(_) => {
                return Err(Error::Setting {
                    name: "window",
                    expected: "a window for 16-bit counts".into(),
                    found: "missing".into(),
                });
            }
        };
        Ok(Self { size, pixels })
    }

    /// Converts the input of a network, `(C, H, W)` or `(1, C, H, W)` with C = 1, 3 or more, of any
    /// floating dtype and device; inverts `normalize`. Of more than three bands the first three are
    /// shown.
    ///
    /// # Errors
    /// [`Error::Setting`] for another shape; [`Error::Candle`].
    pub fn from_tensor(sample: &Tensor, normalize: &Normalize) -> Result<Self> {
        let (channels, height, width) = match *sample.dims() {
            [channels @ (1 | 3..=MAX_CHANNELS), height, width]
            | [1, channels @ (1 | 3..=MAX_CHANNELS), height, width] => (channels, height, width),
            ref other => {
                return Err(Error::Setting {
                    name: "sample",
                    expected: "the shape (C, H, W) or (1, C, H, W) with C = 1, 3 or more".into(),
                    found: format!("{other:?}"),
                });
            }
        };
        let size = ImageSize::new(height, width);
        let values = sample.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let level = |channel: usize, pixel: usize| {
            let plane = if channels == 1 { 0 } else { channel };
            to_level(normalize.invert(values[plane * size.area() + pixel], plane))
        };
        let pixels = (0..size.area()).map(|pixel| [0, 1, 2].map(|channel| level(channel, pixel)));
        Ok(Self { size, pixels: pixels.collect() })
    }

    /// Returns a map of `values` (row-major, one per pixel of `size`) in the colours of [`heat`],
    /// from `range.0` (cold) to `range.1` (hot). NaN is black.
    ///
    /// # Errors
    /// [`Error::Setting`] if the number of values differs from the number of pixels.
    pub fn from_heat(size: ImageSize, values: &[f32], range: (f32, f32)) -> Result<Self> {
        expect_values(size, values)?;
        let color = |&value: &f32| share(value, range).map_or([0; 3], heat);
        Ok(Self { size, pixels: values.iter().map(color).collect() })
    }

    /// Returns height and width.
    pub fn size(&self) -> ImageSize {
        self.size
    }

    /// Returns the pixel at this row and column; `None` outside.
    pub fn pixel(&self, row: usize, column: usize) -> Option<Color> {
        self.index(row, column).map(|index| self.pixels[index])
    }

    fn index(&self, row: usize, column: usize) -> Option<usize> {
        (row < self.size.height && column < self.size.width).then(|| row * self.size.width + column)
    }

    /// Copies `other` so that its first pixel falls on row `top` and column `left`.
    pub fn paste(&mut self, other: &Canvas, top: usize, left: usize) {
        let width = other.size.width.min(self.size.width.saturating_sub(left));
        if width == 0 {
            return;
        }
        let rows = self.pixels.chunks_exact_mut(self.size.width).skip(top);
        for (row, source) in rows.zip(other.pixels.chunks_exact(other.size.width)) {
            row[left..left + width].copy_from_slice(&source[..width]);
        }
    }

    /// Returns the picture enlarged by the whole factor `factor` (0 counts as 1).
    #[must_use]
    pub fn enlarged(&self, factor: usize) -> Self {
        let factor = factor.max(1);
        self.stretched(ImageSize::new(self.size.height * factor, self.size.width * factor))
    }

    /// Returns the picture at another size, by nearest neighbour.
    #[must_use]
    pub fn stretched(&self, size: ImageSize) -> Self {
        if self.size.area() == 0 {
            return Self::new(size, [0; 3]);
        }
        let pixels = (0..size.height).flat_map(|row| {
            let source = nearest(row, size.height, self.size.height) * self.size.width;
            (0..size.width).map(move |column| {
                self.pixels[source + nearest(column, size.width, self.size.width)]
            })
        });
        Self { size, pixels: pixels.collect() }
    }

    /// Blends a heat map over the picture: `values` (row-major) on a grid of `grid` patches that
    /// covers it, with weight `alpha` (0 shows the picture, 1 the map). Patches whose value is NaN
    /// stay unchanged.
    ///
    /// # Errors
    /// [`Error::Setting`] if the number of values differs from the number of patches.
    pub fn overlay_heat(
        &mut self,
        grid: ImageSize,
        values: &[f32],
        range: (f32, f32),
        alpha: f32,
    ) -> Result<()> {
        expect_values(grid, values)?;
        let colors: Vec<Option<Color>> =
            values.iter().map(|&value| share(value, range).map(heat)).collect();
        let alpha = alpha.clamp(0.0, 1.0);
        for (index, pixel) in self.pixels.iter_mut().enumerate() {
            let row = nearest(index / self.size.width, self.size.height, grid.height);
            let column = nearest(index % self.size.width, self.size.width, grid.width);
            if let Some(color) = colors[row * grid.width + column] {
                *pixel = blend(*pixel, color, alpha);
            }
        }
        Ok(())
    }

    /// Colours the pixels of an object, blended with weight `alpha` (0 shows the picture, 1 the
    /// colour).
    ///
    /// # Errors
    /// [`Error::Setting`] for a mask of another size than the picture.
    pub fn overlay_mask(&mut self, mask: &Rle, color: Color, alpha: f32) -> Result<()> {
        if mask.size() != self.size {
            return Err(Error::Setting {
                name: "mask",
                expected: format!("the picture's size, {}", self.size),
                found: mask.size().to_string(),
            });
        }
        let alpha = alpha.clamp(0.0, 1.0);
        let inside = mask.window(Rect::whole(self.size));
        for (pixel, _) in self.pixels.iter_mut().zip(inside).filter(|(_, inside)| *inside) {
            *pixel = blend(*pixel, color, alpha);
        }
        Ok(())
    }

    /// Fills the patches of a grid that covers the picture where `removed` (row-major) is true.
    ///
    /// # Errors
    /// [`Error::Setting`] if the number of flags differs from the number of patches.
    pub fn cover_patches(&mut self, grid: ImageSize, removed: &[bool], color: Color) -> Result<()> {
        if removed.len() != grid.area() || removed.is_empty() {
            return Err(wrong_count(grid, removed.len()));
        }
        for (index, pixel) in self.pixels.iter_mut().enumerate() {
            let row = nearest(index / self.size.width, self.size.height, grid.height);
            let column = nearest(index % self.size.width, self.size.width, grid.width);
            if removed[row * grid.width + column] {
                *pixel = color;
            }
        }
        Ok(())
    }

    /// Draws the outline of a box `[x1, y1, x2, y2]` (pixels, continuous; right and lower edge
    /// exclusive), with a line `thickness` pixels wide inside the box. Invalid boxes (NaN,
    /// reversed) are not drawn.
    pub fn outline(&mut self, corners: [f32; 4], color: Color, thickness: usize) {
        let [x1, y1, x2, y2] = corners;
        // Also false for NaN.
        if !(x1 < x2 && y1 < y2) {
            return;
        }
        // Casts saturate: coordinates outside stay outside and are clipped below.
        let inside = |value: f32, side: usize| (value.round().max(0.0) as usize).min(side);
        let (left, right) = (inside(x1, self.size.width), inside(x2, self.size.width));
        let (top, bottom) = (inside(y1, self.size.height), inside(y2, self.size.height));
        let (whole_left, whole_right) = (f64::from(x1).round(), f64::from(x2).round());
        let (whole_top, whole_bottom) = (f64::from(y1).round(), f64::from(y2).round());
        let width = thickness.max(1) as f64;
        for row in top..bottom {
            for column in left..right {
                let (y, x) = (row as f64, column as f64);
                let edge = x < whole_left + width
                    || x >= whole_right - width
                    || y < whole_top + width
                    || y >= whole_bottom - width;
                if let Some(index) = self.index(row, column).filter(|_| edge) {
                    self.pixels[index] = color;
                }
            }
        }
    }

    /// Returns the pictures arranged in rows, with gaps of `gap` pixels of `background`. Rows are
    /// as high and columns as wide as their largest picture.
    pub fn tiled(rows: &[Vec<Canvas>], gap: usize, background: Color) -> Self {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let heights: Vec<usize> = rows
            .iter()
            .map(|row| row.iter().map(|tile| tile.size.height).max().unwrap_or(0))
            .collect();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let tiles = rows.iter().filter_map(|row| row.get(column));
                tiles.map(|tile| tile.size.width).max().unwrap_or(0)
            })
            .collect();
        let side =
            |sides: &[usize]| sides.iter().sum::<usize>() + gap * sides.len().saturating_sub(1);
        let mut canvas = Self::new(ImageSize::new(side(&heights), side(&widths)), background);
        let mut top = 0;
        for (row, height) in rows.iter().zip(&heights) {
            let mut left = 0;
            for (tile, width) in row.iter().zip(&widths) {
                canvas.paste(tile, top, left);
                left += width + gap;
            }
            top += height + gap;
        }
        canvas
    }

    /// Writes the picture as a PNG file, atomically.
    ///
    /// # Errors
    /// [`Error::Setting`] for a canvas without pixels, [`Error::Io`].
    pub fn save_png(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let sides = (u32::try_from(self.size.width), u32::try_from(self.size.height));
        let (Ok(width @ 1..), Ok(height @ 1..)) = sides else {
            return Err(Error::Setting {
                name: "canvas",
                expected: "at least 1x1 pixels, and sides below 2^32".into(),
                found: self.size.to_string(),
            });
        };
        write_atomic(path, |file| {
            PngEncoder::new(file)
                .write_image(self.pixels.as_flattened(), width, height, ExtendedColorType::Rgb8)
                .map_err(io::Error::other)
        })
        .map_err(|cause| Error::Io { path: path.into(), cause })
    }
}

/// Returns which of `cells` cells contains position `place` of `places`.
fn nearest(place: usize, places: usize, cells: usize) -> usize {
    (place * cells / places.max(1)).min(cells.saturating_sub(1))
}

/// Returns `over` blended on `below` with weight `alpha`.
fn blend(below: Color, over: Color, alpha: f32) -> Color {
    std::array::from_fn(|channel| {
        let (below, over) = (f32::from(below[channel]), f32::from(over[channel]));
        to_level(below + (over - below) * alpha)
    })
}

fn expect_values(size: ImageSize, values: &[f32]) -> Result<()> {
    if values.len() == size.area() && !values.is_empty() {
        return Ok(());
    }
    Err(wrong_count(size, values.len()))
}

fn wrong_count(size: ImageSize, found: usize) -> Error {
    Error::Setting {
        name: "values",
        expected: format!("one for each of {size} cells"),
        found: found.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    const RED: Color = [255, 0, 0];

    #[test]
    fn a_normalised_sample_comes_back() {
        let levels: Vec<u8> = (0..12).map(|index| index * 20).collect();
        let normalize = Normalize::imagenet();
        let values: Vec<f32> = (0..3)
            .flat_map(|channel| (0..4).map(move |pixel| pixel * 3 + channel))
            .map(|index| normalize.apply(f32::from(levels[index]), index % 3))
            .collect();
        let sample = Tensor::from_vec(values, (1, 3, 2, 2), &Device::Cpu).unwrap();
        let canvas = Canvas::from_tensor(&sample, &normalize).unwrap();
        assert_eq!(canvas.pixels.as_flattened(), levels);
        let gray = Tensor::zeros((1, 2, 2), DType::F32, &Device::Cpu).unwrap();
        let canvas = Canvas::from_tensor(&gray, &Normalize::msip()).unwrap();
        assert_eq!(canvas.pixel(1, 1), Some([97; 3]));
        // Of more bands the first three are shown.
        let more = Tensor::ones((1, 2, 2, 2), DType::F32, &Device::Cpu).unwrap();
        let bands = Tensor::cat(&[&sample, &more], 1).unwrap();
        let canvas = Canvas::from_tensor(&bands, &normalize).unwrap();
        assert_eq!(canvas.pixels.as_flattened(), levels);
        let wrong = Tensor::zeros((2, 2, 2), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(
            Canvas::from_tensor(&wrong, &normalize).unwrap_err().to_string(),
            "`sample` is [2, 2, 2], expected the shape (C, H, W) or (1, C, H, W) with C = 1, 3 or more"
        );
    }

    #[test]
    fn tiles_keep_their_distance_and_cut_nothing() {
        let tile = |height, width, color| Canvas::new(ImageSize::new(height, width), color);
        let rows = [vec![tile(2, 3, RED), tile(1, 1, [0, 255, 0])], vec![tile(4, 2, [0, 0, 255])]];
        let canvas = Canvas::tiled(&rows, 2, [9; 3]);
        assert_eq!(canvas.size(), ImageSize::new(2 + 2 + 4, 3 + 2 + 1));
        let expect = [(0, 0, RED), (1, 2, RED), (0, 3, [9; 3]), (0, 5, [0, 255, 0])];
        for (row, column, color) in expect.into_iter().chain([(4, 1, [0, 0, 255]), (4, 2, [9; 3])])
        {
            assert_eq!(canvas.pixel(row, column), Some(color), "({row}, {column})");
        }
        assert_eq!(Canvas::tiled(&[], 2, RED).size().area(), 0);
    }

    #[test]
    fn outlines_are_inside_and_cut_at_the_border() {
        let mut canvas = Canvas::new(ImageSize::new(6, 6), [0; 3]);
        canvas.outline([1.0, 1.0, 5.0, 5.0], RED, 1);
        assert_eq!(canvas.pixels.iter().filter(|&&pixel| pixel == RED).count(), 12);
        assert_eq!((canvas.pixel(1, 1), canvas.pixel(2, 2)), (Some(RED), Some([0; 3])));
        let mut cut = Canvas::new(ImageSize::new(6, 6), [0; 3]);
        cut.outline([-50.0, -50.0, 3.0, 1e30], RED, 1);
        let drawn: Vec<usize> =
            (0..36).filter(|&index| cut.pixels[index] == RED).map(|index| index % 6).collect();
        assert_eq!(drawn, [2; 6], "only the right edge is visible");
        for corners in [[3.0, 3.0, 2.0, 5.0], [f32::NAN, 0.0, 5.0, 5.0]] {
            let before = cut.clone();
            cut.outline(corners, [1; 3], 1);
            assert_eq!(cut, before);
        }
    }

    #[test]
    fn heat_maps_cover_their_patches() {
        let mut canvas = Canvas::new(ImageSize::new(4, 8), [100; 3]);
        let grid = ImageSize::new(1, 2);
        canvas.overlay_heat(grid, &[f32::NAN, 1.0], (0.0, 1.0), 0.5).unwrap();
        assert_eq!(canvas.pixel(3, 3), Some([100; 3]));
        let expected = heat(1.0).map(|level| to_level((100.0 + f32::from(level)) / 2.0));
        assert_eq!(canvas.pixel(0, 4), Some(expected));
        let refused = canvas.overlay_heat(grid, &[1.0], (0.0, 1.0), 0.5).unwrap_err();
        assert_eq!(refused.to_string(), "`values` is 1, expected one for each of 1x2 cells");
        canvas.cover_patches(grid, &[true, false], RED).unwrap();
        assert_eq!((canvas.pixel(0, 0), canvas.pixel(0, 4)), (Some(RED), Some(expected)));
        assert!(canvas.cover_patches(grid, &[true], RED).is_err());
        let flat = Canvas::from_heat(grid, &[2.0, f32::NAN], (2.0, 2.0)).unwrap();
        assert_eq!(flat.pixels, [heat(0.0), [0; 3]]);
    }

    #[test]
    fn enlarging_repeats_pixels_and_saving_keeps_them() {
        let image = Image::new(ImageSize::new(1, 2), 1, Pixels::U8(vec![10, 200])).unwrap();
        let canvas = Canvas::from_image(&image, None).unwrap().enlarged(16);
        assert_eq!(canvas.size(), ImageSize::new(16, 32));
        assert_eq!((canvas.pixel(15, 15), canvas.pixel(0, 16)), (Some([10; 3]), Some([200; 3])));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        canvas.save_png(&path).unwrap();
        let back = crate::image::decode(&path, &Default::default()).unwrap();
        assert_eq!(Canvas::from_image(&back, None).unwrap(), canvas);
        let nowhere = folder.path().join("missing").join("a.png");
        assert!(canvas.save_png(&nowhere).unwrap_err().to_string().contains("missing"));
        let empty = Canvas::new(ImageSize::new(0, 4), RED).save_png(&path).unwrap_err();
        assert_eq!(
            empty.to_string(),
            "`canvas` is 0x4, expected at least 1x1 pixels, and sides below 2^32"
        );
    }

    #[test]
    fn counts_need_a_window() {
        let image = Image::new(ImageSize::new(1, 2), 1, Pixels::U16(vec![1000, 1100])).unwrap();
        assert_eq!(
            Canvas::from_image(&image, None).unwrap_err().to_string(),
            "`window` is missing, expected a window for 16-bit counts"
        );
        let window = Window::Fixed { low: 1000.0, high: 1100.0 };
        let canvas = Canvas::from_image(&image, Some(&window)).unwrap();
        assert_eq!(canvas.pixels, [[0; 3], [255; 3]]);
    }
}
