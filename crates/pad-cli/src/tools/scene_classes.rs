//! Rendered scenes as labelled images: the class is the kind of scene.

use std::sync::Arc;

use pad::data::{
    Dataset, Result,
    dataset::no_such_sample,
    image::DecodeOptions,
    scenes::{Family, FamilyWeights, SceneConfig, SceneSet, Size},
    sets::classification::ClassifiedImage,
};

/// Kinds of scenes by their names.
const FAMILIES: [(&str, Family); 7] = [
    ("street", Family::Street),
    ("mast", Family::Mast),
    ("aerial", Family::Aerial),
    ("field", Family::Field),
    ("room", Family::Room),
    ("close_up", Family::CloseUp),
    ("plant", Family::Plant),
];

/// Scenes of every kind.
#[derive(Clone)]
pub struct SceneClasses {
    /// A set per class.
    sets: Arc<Vec<SceneSet>>,
    /// The images of each set that belong to this part.
    first: usize,
    each: usize,
    classes: Arc<Vec<String>>,
}

impl SceneClasses {
    /// Renders equally many scenes of each kind, about `count` in all, and splits them into those
    /// to train and a share to test on.
    pub fn render(count: usize, held_out: f64, seed: u64) -> Result<(Self, Self)> {
        let each = (count / FAMILIES.len()).max(4);
        let tested = ((each as f64 * held_out).round() as usize).clamp(1, each - 1);
        tracing::info!("rendering {each} scenes of each of {} kinds", FAMILIES.len());
        let mut sets = Vec::new();
        for (class, (_, family)) in FAMILIES.iter().enumerate() {
            // Another seed for each kind: not the same weather in all.
            let seed = seed.wrapping_mul(1000).wrapping_add(class as u64);
            let families = FamilyWeights::only(*family);
            let config = SceneConfig { families, ..SceneConfig::new(Size::new(256, 320), seed) };
            sets.push(SceneSet::render(&config, each)?);
        }
        let classes = Arc::new(FAMILIES.map(|(name, _)| name.to_string()).to_vec());
        let val = Self { sets: Arc::new(sets), first: 0, each: tested, classes };
        let train = Self { first: tested, each: each - tested, ..val.clone() };
        Ok((train, val))
    }

    /// The class of an image, its set and its place in it.
    fn place(&self, index: usize) -> Result<(usize, &SceneSet, usize)> {
        let class = index / self.each;
        let set = self.sets.get(class).ok_or_else(|| no_such_sample(index, self.len()))?;
        Ok((class, set, self.first + index % self.each))
    }
}

impl Dataset for SceneClasses {
    type Sample = ClassifiedImage;

    fn len(&self) -> usize {
        self.sets.len() * self.each
    }

    fn name(&self, index: usize) -> String {
        match self.place(index) {
            Ok((class, set, index)) => format!("{}/{}", self.classes[class], set.name(index)),
            Err(_) => "no such scene".into(),
        }
    }

    fn classes(&self) -> &Vec<String> {
        &self.classes
    }

    fn info(&self, index: usize) -> Result<usize> {
        Ok(self.place(index)?.0)
    }

    fn get(&self, index: usize, options: &DecodeOptions) -> Result<ClassifiedImage> {
        let (class, set, index) = self.place(index)?;
        Ok(ClassifiedImage { image: set.get(index, options)?, class })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_every_class_and_no_scene_in_common() {
        let (train, val) = SceneClasses::render(28, 0.25, 3).unwrap();
        assert_eq!((train.len(), val.len()), (21, 7));
        let names = |set: &SceneClasses| (0..set.len()).map(|i| set.name(i)).collect::<Vec<_>>();
        assert!(names(&train).iter().all(|name| !names(&val).contains(name)));
        assert_eq!((0..7).map(|i| val.info(i).unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(train.get(20, &DecodeOptions::default()).unwrap().class, 6);
        assert!(train.get(21, &DecodeOptions::default()).is_err());
    }
}
