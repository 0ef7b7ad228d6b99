//! Training crops with and without regions of interest.

use std::sync::Arc;

use pad_data::{
    draw::Canvas,
    image::Image,
    resize::Filter,
    roi::Roi,
    transform::{RandomResizedCrop, RoiCrop},
    window::Window,
};
use pad_ops::{
    ImageSize,
    rng::{Key, Purpose},
};

use super::sheet::{GAP, PAPER, titled};
use crate::Result;

/// Side of a crop in the picture, pixels.
const SIDE: usize = 112;

/// An image and its regions of interest.
#[derive(Clone, Debug)]
pub struct CropExample {
    /// The image.
    pub image: Arc<Image>,
    /// Its regions.
    pub rois: Vec<Roi>,
}

/// How crops are drawn.
#[derive(Clone, Debug)]
pub struct CropPicture {
    /// Crops without regions.
    pub plain: RandomResizedCrop,
    /// Crops around regions.
    pub around: RoiCrop,
    /// How counts of 16-bit images become levels.
    pub window: Window,
    /// Crops of each kind per image. Default 4.
    pub crops: usize,
    /// Seed of the crops.
    pub seed: u64,
}

impl Default for CropPicture {
    fn default() -> Self {
        Self {
            plain: RandomResizedCrop::default(),
            around: RoiCrop::default(),
            window: Window::default(),
            crops: 4,
            seed: 0,
        }
    }
}

/// Draws each image with its regions, plain random crops of it, and crops around its regions from
/// the same random numbers.
///
/// # Errors
/// An image that the window does not fit; a region outside its image.
pub fn crops(examples: &[CropExample], picture: &CropPicture) -> Result<Canvas> {
    let mut rows = Vec::new();
    for (index, CropExample { image, rois }) in examples.iter().enumerate() {
        let image = picture.window.apply(image.as_ref().clone())?;
        let size = image.size();
        let mut canvas = Canvas::from_image(&image, None)?;
        canvas.outline_rois(rois);
        let width = (SIDE * size.width / size.height.max(1)).max(1);
        let mut row = vec![canvas.stretched(ImageSize::new(SIDE, width))];
        for around in [false, true] {
            let mut shown = Vec::new();
            for crop in 0..picture.crops as u64 {
                let key = Key::new(picture.seed).epoch(crop).sample(index as u64);
                let mut stream = key.purpose(Purpose::Crop).stream();
                let part = match around {
                    true => picture.around.draw(size, rois, &mut stream),
                    false => picture.plain.draw(size, &mut stream),
                };
                let side = ImageSize::square(SIDE);
                let crop = RandomResizedCrop::apply(&image, part, side, Filter::default())?;
                shown.push(Canvas::from_image(&crop, None)?);
            }
            row.push(Canvas::tiled(&[shown], GAP / 2, PAPER));
        }
        rows.push(row);
    }
    let titles = ["image and regions", "random crops", "crops around regions"];
    Ok(titled(&titles.map(String::from), rows))
}
