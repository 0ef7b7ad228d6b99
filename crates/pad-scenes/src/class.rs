//! What a pixel of a scene can be.

/// Names of the classes, by their number in class maps and boxes.
pub const CLASSES: [&str; 10] = [
    "background",
    "ground",
    "sky",
    "road",
    "building",
    "vegetation",
    "person",
    "car",
    "bicycle",
    "animal",
];

/// A colour for each class, RGB, for drawing class maps.
pub const PALETTE: [[u8; 3]; 10] = [
    [70, 70, 80],
    [150, 120, 90],
    [90, 160, 230],
    [120, 70, 130],
    [200, 190, 170],
    [60, 150, 60],
    [230, 40, 60],
    [50, 60, 220],
    [250, 150, 30],
    [240, 220, 60],
];

/// In class maps: pixels of objects too small or too hidden to be labelled.
pub const IGNORE: u8 = 255;

/// A class by name. The number is [`Class::index`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Everything without a class of its own: rooms and furniture, poles, fences, machines, panels.
    Background = 0,
    /// Ground that is no road: grass, soil, paving, sand, snow, water.
    Ground = 1,
    /// Sky.
    Sky = 2,
    /// Carriageways and car parks.
    Road = 3,
    /// Houses, sheds and their roofs.
    Building = 4,
    /// Trees, bushes, hedges.
    Vegetation = 5,
    /// People, with what they wear and carry.
    Person = 6,
    /// Cars and vans.
    Car = 7,
    /// Bicycles, without their riders.
    Bicycle = 8,
    /// Four-legged animals.
    Animal = 9,
}

impl Class {
    /// All classes, in the order of [`CLASSES`].
    pub const ALL: [Class; 10] = [
        Class::Background,
        Class::Ground,
        Class::Sky,
        Class::Road,
        Class::Building,
        Class::Vegetation,
        Class::Person,
        Class::Car,
        Class::Bicycle,
        Class::Animal,
    ];

    /// Its number in class maps and boxes.
    pub const fn index(self) -> u8 {
        self as u8
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        CLASSES[self as usize]
    }

    /// Whether its instances are counted and boxed (person, car, bicycle, animal).
    pub const fn is_thing(self) -> bool {
        matches!(self, Class::Person | Class::Car | Class::Bicycle | Class::Animal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_names_and_colours_agree() {
        for (index, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(class.index()), index);
            assert_eq!(class.name(), CLASSES[index]);
        }
        assert_eq!(Class::Car.name(), "car");
        let things: Vec<&str> =
            Class::ALL.iter().filter(|class| class.is_thing()).map(|class| class.name()).collect();
        assert_eq!(things, ["person", "car", "bicycle", "animal"]);
        let mut colours = PALETTE.to_vec();
        colours.sort_unstable();
        colours.dedup();
        assert_eq!(colours.len(), CLASSES.len());
    }
}
