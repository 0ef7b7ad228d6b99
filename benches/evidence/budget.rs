//! How long runs are and how large their images: the same for all rows.

use clap::ValueEnum;

/// The name of a [`Budget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BudgetName {
    /// Minutes: shows that everything runs, and nothing else
    Tiny,
    /// Some minutes a run on two cores
    Short,
    /// Hours a run on two cores, minutes on a GPU
    Full,
}

impl BudgetName {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Short => "short",
            Self::Full => "full",
        }
    }
}

/// Lengths in updates, sizes in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Budget {
    /// Pre-training: updates, images of one, side of the input.
    pub(crate) pretrain_steps: usize,
    pub(crate) pretrain_batch: usize,
    pub(crate) pretrain_size: usize,
    /// Rendered scenes in the mix, and in place of it.
    pub(crate) mix_scenes: usize,
    /// Detection: updates, side of crops, side in evaluation, images for evaluation (`None`: all).
    pub(crate) detect_steps: usize,
    pub(crate) detect_size: usize,
    pub(crate) detect_test_size: usize,
    pub(crate) detect_val: Option<usize>,
    /// Segmentation: updates, long and short side of images, side of crops.
    pub(crate) segment_steps: usize,
    pub(crate) segment_scale: [usize; 2],
    pub(crate) segment_crop: usize,
    /// Rendered scenes for training and evaluation where a set is not given.
    pub(crate) scenes: usize,
    pub(crate) val_scenes: usize,
    /// Images of a class, for training and for testing (`None`: all).
    pub(crate) class_images: Option<[usize; 2]>,
    /// Patches of an image that is classified, rows and columns.
    pub(crate) class_grid: [usize; 2],
    /// Fine-tuning: images of an update, updates with 1, 10, 100% of the labels.
    pub(crate) finetune_batch: usize,
    pub(crate) finetune_steps: [usize; 3],
}

impl From<BudgetName> for Budget {
    fn from(name: BudgetName) -> Self {
        match name {
            BudgetName::Tiny => Self {
                // An update between two evaluations, so that gates thaw in it as they do in long runs.
                pretrain_steps: 10,
                pretrain_batch: 8,
                pretrain_size: 64,
                mix_scenes: 40,
                detect_steps: 2,
                detect_size: 128,
                detect_test_size: 128,
                detect_val: Some(4),
                segment_steps: 2,
                segment_scale: [112, 84],
                segment_crop: 64,
                scenes: 12,
                val_scenes: 4,
                class_images: Some([8, 4]),
                class_grid: [4, 4],
                finetune_batch: 8,
                finetune_steps: [2, 2, 2],
            },
            BudgetName::Short => Self {
                pretrain_steps: 300,
                pretrain_batch: 32,
                pretrain_size: 176,
                mix_scenes: 300,
                detect_steps: 600,
                detect_size: 448,
                detect_test_size: 800,
                detect_val: Some(100),
                segment_steps: 150,
                segment_scale: [320, 240],
                segment_crop: 224,
                scenes: 300,
                val_scenes: 40,
                class_images: Some([300, 100]),
                class_grid: [8, 5],
                finetune_batch: 32,
                finetune_steps: [60, 120, 240],
            },
            BudgetName::Full => Self {
                pretrain_steps: 4000,
                pretrain_batch: 64,
                pretrain_size: 224,
                mix_scenes: 1000,
                detect_steps: 8000,
                detect_size: 448,
                detect_test_size: 832,
                detect_val: None,
                segment_steps: 1500,
                segment_scale: [640, 480],
                segment_crop: 224,
                scenes: 600,
                val_scenes: 100,
                class_images: None,
                class_grid: [8, 5],
                finetune_batch: 64,
                finetune_steps: [300, 1000, 3000],
            },
        }
    }
}
