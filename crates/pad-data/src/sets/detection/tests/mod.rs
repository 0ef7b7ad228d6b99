//! Files of every format, good and bad; each error's text.

mod batches;
mod coco;
mod fixtures;
mod folders;
