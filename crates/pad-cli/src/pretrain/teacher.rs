//! The teacher of a run: its file, and what tells it apart from others.

use std::{collections::BTreeMap, path::Path};

use candle_core::Device;
use pad::{
    checkpoint::{Checkpoint, InputStats},
    data::transform::Normalize,
    ssl::{TeacherModel, TeacherOptions},
    vit::ViTConfig,
};

use super::settings::Pretrain;
use crate::{
    run::{
        Result,
        folder::{TEACHER_DIGEST, TEACHER_INPUT, TEACHER_VIT},
    },
    settings::{Settings, values::Auto},
    tools::shipped,
};

/// Reads the file that the settings name.
pub fn read(settings: &Settings<Pretrain>) -> Result<Option<Checkpoint>> {
    let Some(source) = &settings.own.teacher else { return Ok(None) };
    shipped::open(Path::new(source)).map(Some)
}

/// What a resumed run must find in the file of its teacher, wherever it lies: the digest of its
/// tensors, the model that it says they are, and the statistics of its images if it states them.
pub fn facts(teacher: &Checkpoint) -> Result<BTreeMap<String, String>> {
    let mut facts = BTreeMap::from([(TEACHER_DIGEST.to_string(), teacher.digest()?)]);
    if let Some(InputStats { mean, std }) = teacher.input_stats()? {
        facts.insert(TEACHER_INPUT.into(), Normalize { mean, std }.to_string());
    }
    let metadata = teacher.metadata();
    let model = metadata.get("mae").or_else(|| metadata.get("vit"));
    facts.insert(TEACHER_VIT.into(), model.map_or("inferred", String::as_str).into());
    Ok(facts)
}

/// Builds the teacher of `student`.
pub fn build(
    teacher: Checkpoint,
    settings: &Settings<Pretrain>,
    student: &ViTConfig,
    normalize: &Normalize,
    device: &Device,
) -> Result<TeacherModel> {
    let config = match &settings.own.teacher_model {
        Auto::Auto => None,
        Auto::Given(name) => Some(ViTConfig::preset(name, student.patch_size)?),
    };
    let options = TeacherOptions {
        config,
        input_stats: normalize.clone(),
        matmul_precision: settings.run.dtype.0,
    };
    Ok(TeacherModel::open(teacher, student, &options, device)?)
}
