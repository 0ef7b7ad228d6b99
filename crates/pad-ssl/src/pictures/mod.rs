//! Pictures of what a model does: reconstructions, patchwise scales, crops, masks. Each is a
//! [`Canvas`](pad_data::draw::Canvas) with a row per image and a title over every column.

mod crops;
mod masks;
mod reconstruction;
mod scales;
mod sheet;

pub use crops::{CropExample, CropPicture, crops};
pub use masks::{MaskPicture, masks};
pub use reconstruction::reconstructions;
pub use scales::{ScalePicture, scales};
