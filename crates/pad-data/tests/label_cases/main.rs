//! Labels as people have them: each case of `tests/golden/cases` with its right value, and others of
//! its kind; a file a format.

mod coco;
mod cvat;
mod hit_uav;
mod label_studio;
mod masks;
mod parts;
mod support;
mod voc;
mod yolo;
