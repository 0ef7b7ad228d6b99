//! The world of one scene: ground, decals, stains, bodies, and the instances that get boxes.

use crate::{
    camera::Camera,
    class::Class,
    dice::Dice,
    ground::{Area, Decal, Effect, Rows, Stain},
    material::Material,
    pattern::Pattern,
    shape::Shape,
    vector::{V3, v3},
    weather::Weather,
};

/// The parts of a surface that are cut out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cutout {
    Solid,
    /// Foliage: gaps with waves of `scale` metres; `density` from 0 (bare) to 1 (full).
    Leaves {
        scale: f32,
        density: f32,
    },
    /// Bars every `pitch` metres along the body's x and z, `share` of it solid; mesh has them along
    /// y too.
    Bars {
        pitch: f32,
        share: f32,
        mesh: bool,
    },
}

/// A body with its material and meaning.
#[derive(Clone, Debug)]
pub(crate) struct Surface {
    pub(crate) shape: Shape,
    pub(crate) material: Material,
    pub(crate) pattern: Pattern,
    pub(crate) cutout: Cutout,
    pub(crate) class: Class,
    /// Number of the instance it belongs to, from 1; 0 for the background.
    pub(crate) thing: u16,
    pub(crate) seed: u32,
    /// Offset of the body in its texture: parts of one animal share seed and texture, so that no
    /// seams show.
    pub(crate) anchor: V3,
}

/// The world of one scene.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) weather: Weather,
    pub(crate) camera: Camera,
    /// The open ground; `None` where a floor of blocks replaces it.
    pub(crate) ground: Option<(Material, Class, Option<Rows>)>,
    pub(crate) decals: Vec<Decal>,
    pub(crate) stains: Vec<Stain>,
    pub(crate) surfaces: Vec<Surface>,
    /// Class of each thing; thing `n` is at `n - 1`.
    pub(crate) things: Vec<Class>,
    pub(crate) seed: u32,
    /// Occupied discs of the ground: x, z, radius.
    taken: Vec<(f32, f32, f32)>,
    current: (Class, u16),
}

impl World {
    pub(crate) fn new(weather: Weather, camera: Camera, seed: u32) -> Self {
        Self {
            weather,
            camera,
            ground: None,
            decals: Vec::new(),
            stains: Vec::new(),
            surfaces: Vec::new(),
            things: Vec::new(),
            seed,
            taken: Vec::new(),
            current: (Class::Background, 0),
        }
    }

    /// Adds a body of the current class.
    pub(crate) fn add(&mut self, shape: Shape, material: Material) -> &mut Surface {
        let index = self.surfaces.len();
        let (class, thing) = self.current;
        let seed = self.seed.wrapping_add((index as u32).wrapping_mul(0x9E37_79B9));
        let (pattern, cutout) = (Pattern::Plain, Cutout::Solid);
        let anchor = v3(7.3, 0.0, 0.0);
        self.surfaces.push(Surface {
            shape,
            material,
            pattern,
            cutout,
            class,
            thing,
            seed,
            anchor,
        });
        &mut self.surfaces[index]
    }

    /// Calls `build`; all bodies it adds are of class `class`, and one new instance if the class is
    /// counted.
    pub(crate) fn of_class(&mut self, class: Class, build: impl FnOnce(&mut World)) {
        let before = self.current;
        let thing = if class.is_thing() && self.things.len() < usize::from(u16::MAX) {
            self.things.push(class);
            self.things.len() as u16
        } else {
            0
        };
        self.current = (class, thing);
        build(self);
        self.current = before;
    }

    pub(crate) fn lay(&mut self, area: Area, material: Material, class: Class) -> &mut Decal {
        let index = self.decals.len();
        let seed = self.seed.wrapping_mul(31).wrapping_add(index as u32);
        self.decals.push(Decal { area, material, class, rows: None, seed });
        &mut self.decals[index]
    }

    pub(crate) fn stain(&mut self, area: Area, softness: f32, effect: Effect) {
        self.stains.push(Stain { area, softness, effect });
    }

    /// Occupies a disc of the ground; `false` if part of it is occupied already.
    pub(crate) fn take(&mut self, x: f32, z: f32, radius: f32) -> bool {
        let free = self.taken.iter().all(|&(tx, tz, tr)| {
            let (dx, dz, reach) = (x - tx, z - tz, radius + tr);
            dx * dx + dz * dz >= reach * reach
        });
        if free {
            self.taken.push((x, z, radius));
        }
        free
    }

    /// Occupies a disc, whether it is free or not.
    pub(crate) fn occupy(&mut self, x: f32, z: f32, radius: f32) {
        self.taken.push((x, z, radius));
    }

    /// Draws a point of flat ground in view, between two distances from the camera. Its distance is
    /// log-uniform, so that objects of all sizes appear. `None` if `tries` points fell outside the
    /// image.
    pub(crate) fn ground_in_view(
        &self,
        dice: &mut Dice,
        nearest: f32,
        farthest: f32,
        tries: usize,
    ) -> Option<V3> {
        let (width, height) = (self.camera.size.width as f32, self.camera.size.height as f32);
        let eye = self.camera.frame.origin;
        for _ in 0..tries {
            let ray = self.camera.ray(dice.between(0.02, 0.98) * width, 0.5 * height);
            let heading = v3(ray.x, 0.0, ray.z);
            let distance = dice.log_between(nearest.max(0.3), farthest.max(nearest + 0.1));
            let point = if heading.length() < 0.35 {
                // Looking down: any image point is on the ground.
                let ray = self.camera.ray(dice.unit() * width, dice.unit() * height);
                if ray.y > -1e-3 {
                    continue;
                }
                eye + ray * (eye.y / -ray.y)
            } else {
                let flat = v3(eye.x, 0.0, eye.z);
                flat + heading.normalized() * distance
            };
            if let Some((x, y, depth)) = self.camera.project(point)
                && depth > 0.4
                && (0.0..width).contains(&x)
                && (-0.1 * height..1.12 * height).contains(&y)
            {
                return Some(v3(point.x, 0.0, point.z));
            }
        }
        None
    }

    /// Draws a point of the floor in front of the camera, between two distances and inside walls at
    /// `half` from the middle.
    pub(crate) fn floor_in_view(
        &self,
        dice: &mut Dice,
        (nearest, farthest): (f32, f32),
        half: (f32, f32),
    ) -> Option<V3> {
        let width = self.camera.size.width as f32;
        let eye = self.camera.frame.origin;
        for _ in 0..16 {
            let ray = self
                .camera
                .ray(dice.between(0.03, 0.97) * width, 0.5 * self.camera.size.height as f32);
            let heading = v3(ray.x, 0.0, ray.z).normalized();
            let at = v3(eye.x, 0.0, eye.z) + heading * dice.log_between(nearest, farthest);
            if at.x.abs() < half.0 && at.z.abs() < half.1 {
                return Some(at);
            }
        }
        None
    }

    /// Returns the class and the instance of the surface `id` (see `raster`).
    pub(crate) fn meaning(&self, id: usize) -> (Class, u16) {
        match id {
            0 => (if self.weather.indoor { Class::Background } else { Class::Sky }, 0),
            1 => (self.ground.as_ref().map_or(Class::Background, |ground| ground.1), 0),
            _ => match self.decals.get(id - 2) {
                Some(decal) => (decal.class, 0),
                None => match self.surfaces.get(id - 2 - self.decals.len()) {
                    Some(surface) => (surface.class, surface.thing),
                    None => (Class::Background, 0),
                },
            },
        }
    }
}
