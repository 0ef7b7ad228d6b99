//! The classes of pixels and objects.

/// The names of the classes, by their index in class maps and boxes.
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

/// The colour of each class in drawn class maps, RGB.
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

/// The value of class maps for pixels of objects too small or too hidden to be labelled.
pub const IGNORE: u8 = 255;

/// The class of a pixel or an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Everything else: rooms and furniture, poles, fences, machines, panels.
    Background = 0,
    /// Ground other than roads: grass, soil, paving, sand, snow, water.
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
    /// Dogs, cats, foxes, sheep, deer, boars, cows and horses.
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

    /// Returns its index in class maps and boxes.
    pub const fn index(self) -> u8 {
        self as u8
    }

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        CLASSES[self as usize]
    }

    /// Returns whether its instances get boxes (person, car, bicycle, animal).
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
