//! Visibility: the surface that each sample of the image sees. Bodies are intersected exactly, by
//! rays, inside the rectangle of pixels that they can touch; four samples per pixel smooth the
//! edges.

use crate::{
    camera::{Camera, Reach},
    ground::{Area, Decal},
    hit::{Hit, Limb, hit_ball, hit_block, hit_cylinder, hit_hull, hit_ring, hit_tube},
    noise::{hash_unit, value3},
    shape::{MAX_PLANES, Shape},
    vector::{V3, mix, v3},
    world::{Cutout, Surface, World},
};

/// The number of samples per pixel.
pub(crate) const SAMPLES: usize = 4;

/// Positions of the samples in a pixel: a rotated square, so that near-vertical and near-horizontal
/// edges get four steps.
pub(crate) const OFFSETS: [(f32, f32); SAMPLES] =
    [(0.375, 0.125), (0.875, 0.375), (0.125, 0.625), (0.625, 0.875)];

/// Largest depth of the ground, metres: haze hides everything beyond.
const FARTHEST: f32 = 2.0e4;

/// The surface that every sample sees.
///
/// A key is `16 id + face`; id 0 is the sky, 1 the open ground, followed by the decals, then by the
/// surfaces.
pub(crate) struct Samples {
    pub(crate) key: Vec<u32>,
    pub(crate) depth: Vec<f32>,
    /// Middle of each pixel on the ground.
    pub(crate) ground: Vec<GroundPixel>,
    /// Number of samples that each instance would cover without any occlusion; instance `n` is at
    /// `n - 1`.
    pub(crate) covered: Vec<u32>,
}

/// A pixel's place on the ground.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroundPixel {
    pub(crate) x: f32,
    pub(crate) z: f32,
    /// Half the length of the pixel's footprint, metres; infinite at the horizon, negative off the
    /// ground.
    pub(crate) reach: f32,
}

/// A ray bundle in some body's coordinates: `forward + right * dx + up * dy`.
#[derive(Clone, Copy)]
struct Bundle {
    from: V3,
    forward: V3,
    right: V3,
    up: V3,
}

impl Bundle {
    fn world(camera: &Camera) -> Self {
        let frame = &camera.frame;
        Self { from: frame.origin, forward: frame.forward, right: frame.right, up: frame.up }
    }

    fn mapped(self, point: impl Fn(V3) -> V3, direction: impl Fn(V3) -> V3) -> Self {
        Self {
            from: point(self.from),
            forward: direction(self.forward),
            right: direction(self.right),
            up: direction(self.up),
        }
    }
}

/// Finds the surface that every sample of the world's camera sees.
pub(crate) fn rasterise(world: &World) -> Samples {
    let camera = &world.camera;
    let (width, height) = (camera.size.width, camera.size.height);
    let count = width * height * SAMPLES;
    let mut samples = Samples {
        key: vec![0; count],
        depth: vec![f32::INFINITY; count],
        ground: Vec::new(),
        covered: vec![0; world.things.len()],
    };
    if world.ground.is_some() {
        draw_ground(world, &mut samples);
        for (index, decal) in world.decals.iter().enumerate() {
            draw_decal(camera, decal, (2 + index as u32) << 4, &mut samples);
        }
    }
    draw_bodies(world, &mut samples);
    samples
}

fn draw_ground(world: &World, samples: &mut Samples) {
    let camera = &world.camera;
    let eye = camera.frame.origin;
    let none = GroundPixel { x: 0.0, z: 0.0, reach: -1.0 };
    samples.ground = vec![none; camera.size.area()];
    if eye.y <= 0.0 {
        return;
    }
    let width = camera.size.width;
    for (pixel, place) in samples.ground.iter_mut().enumerate() {
        let (x, y) = ((pixel % width) as f32, (pixel / width) as f32);
        let mut seen = 0;
        for (sample, (ox, oy)) in OFFSETS.iter().enumerate() {
            let depth = ground_depth(eye, camera.ray(x + ox, y + oy));
            if depth < FARTHEST {
                samples.key[pixel * SAMPLES + sample] = 1 << 4;
                samples.depth[pixel * SAMPLES + sample] = depth;
                seen += 1;
            }
        }
        if seen == 0 {
            continue;
        }
        let ray = camera.ray(x + 0.5, y + 0.5);
        let depth = ground_depth(eye, ray);
        *place = if seen == SAMPLES && depth < FARTHEST {
            let at = eye + ray * depth;
            let slope = -ray.y / ray.length();
            let reach = 0.75 * depth * ray.length() / (camera.focal * slope);
            GroundPixel { x: at.x, z: at.z, reach }
        } else {
            GroundPixel { x: 0.0, z: 0.0, reach: f32::INFINITY }
        };
    }
}

/// Returns the depth at which a ray meets the ground; infinite if it does not.
fn ground_depth(eye: V3, ray: V3) -> f32 {
    if ray.y < -1e-6 { eye.y / -ray.y } else { f32::INFINITY }
}

/// Returns the pixels that an area of the ground can touch.
pub(crate) fn area_reach(camera: &Camera, area: &Area) -> Option<Reach> {
    match area.corners() {
        Some(corners) => camera.reach(&corners),
        None => {
            let (x1, y1) = (camera.size.width, camera.size.height);
            Some(Reach { x0: 0, x1, y0: 0, y1, nearest: 0.0 })
        }
    }
}

fn draw_decal(camera: &Camera, decal: &Decal, key: u32, samples: &mut Samples) {
    let Some(reach) = area_reach(camera, &decal.area) else {
        return;
    };
    let eye = camera.frame.origin;
    for y in reach.y0..reach.y1 {
        for x in reach.x0..reach.x1 {
            let pixel = y * camera.size.width + x;
            let place = samples.ground[pixel];
            if place.reach < 0.0 {
                continue;
            }
            let first = pixel * SAMPLES;
            let keys = &mut samples.key[first..first + SAMPLES];
            if place.reach < f32::INFINITY {
                let distance = decal.area.distance(place.x, place.z);
                if distance > place.reach {
                    continue;
                }
                if distance < -place.reach {
                    keys.fill(key);
                    continue;
                }
            }
            for (own, (ox, oy)) in keys.iter_mut().zip(OFFSETS) {
                let ray = camera.ray(x as f32 + ox, y as f32 + oy);
                let depth = ground_depth(eye, ray);
                if *own != 0 && depth < FARTHEST {
                    let at = eye + ray * depth;
                    if decal.area.distance(at.x, at.z) < 0.0 {
                        *own = key;
                    }
                }
            }
        }
    }
}

fn draw_bodies(world: &World, samples: &mut Samples) {
    let camera = &world.camera;
    let bodies: Vec<Option<Reach>> =
        world.surfaces.iter().map(|surface| camera.reach(&surface.shape.corners())).collect();
    let mut still = Vec::new();
    let mut things = Vec::new();
    for (index, reach) in bodies.iter().enumerate() {
        if let Some(reach) = reach {
            let list = if world.surfaces[index].thing == 0 { &mut still } else { &mut things };
            list.push((index, *reach));
        }
    }
    // Front to back: hidden bodies are skipped. The sort is stable, so that equal depths keep their
    // order.
    still.sort_by(|a, b| a.1.nearest.total_cmp(&b.1.nearest));
    let first_id = 2 + world.decals.len();
    // The last instance that covered a sample, so that its parts are not counted twice.
    let mut touched = vec![0_u16; if things.is_empty() { 0 } else { samples.key.len() }];
    for (index, reach) in still.into_iter().chain(things) {
        let surface = &world.surfaces[index];
        let key = ((first_id + index) as u32) << 4;
        Filler { camera, surface, reach, key, samples: &mut *samples, touched: &mut touched }
            .draw();
    }
}

/// Draws one body.
struct Filler<'a> {
    camera: &'a Camera,
    surface: &'a Surface,
    reach: Reach,
    key: u32,
    samples: &'a mut Samples,
    touched: &'a mut [u16],
}

impl Filler<'_> {
    fn draw(&mut self) {
        let world = Bundle::world(self.camera);
        let surface = self.surface;
        let unit = v3(1.0, 1.0, 1.0);
        let inside = |frame: &crate::vector::Frame| {
            world.mapped(|p| frame.local_point(p), |d| frame.local_direction(d))
        };
        match &surface.shape {
            Shape::Block { frame, half } => {
                let bundle = inside(frame);
                self.scan(bundle, unit, |d| hit_block(bundle.from, d, *half));
            }
            Shape::Hull { frame, planes, count, .. } => {
                let bundle = inside(frame);
                let planes = &planes[..(*count).min(MAX_PLANES)];
                self.scan(bundle, unit, |d| hit_hull(bundle.from, d, planes));
            }
            Shape::Ellipsoid { frame, radii } => {
                let inverse = v3(1.0 / radii.x, 1.0 / radii.y, 1.0 / radii.z);
                let bundle = inside(frame).mapped(|p| p.times(inverse), |d| d.times(inverse));
                self.scan(bundle, *radii, |d| hit_ball(bundle.from, d, 1.0));
            }
            Shape::Limb { a, b, ra, rb } => {
                let limb = Limb::new(*a, *b, *ra, *rb, world.from);
                self.scan(world, unit, |d| limb.hit(d));
            }
            Shape::Cylinder { frame, radius, half } => {
                let bundle = inside(frame);
                self.scan(bundle, unit, |d| hit_cylinder(bundle.from, d, *radius, *half));
            }
            Shape::Tube { frame, radius, half } => {
                let bundle = inside(frame);
                self.scan(bundle, unit, |d| hit_tube(bundle.from, d, *radius, *half));
            }
            Shape::Ring { frame, outer, inner } => {
                let bundle = inside(frame);
                self.scan(bundle, unit, |d| hit_ring(bundle.from, d, *outer, *inner));
            }
        }
    }

    /// Tests every sample in reach. `scale` turns the bundle's coordinates back into metres.
    fn scan(&mut self, bundle: Bundle, scale: V3, hit: impl Fn(V3) -> Hit) {
        let Reach { x0, x1, y0, y1, nearest } = self.reach;
        let per = 1.0 / self.camera.focal;
        let (cx, cy) = (0.5 * self.camera.size.width as f32, 0.5 * self.camera.size.height as f32);
        let thing = self.surface.thing;
        let solid = matches!(self.surface.cutout, Cutout::Solid);
        for y in y0..y1 {
            for x in x0..x1 {
                let first = (y * self.camera.size.width + x) * SAMPLES;
                for (sample, (ox, oy)) in OFFSETS.iter().enumerate() {
                    let at = first + sample;
                    let hidden = self.samples.depth[at] <= nearest;
                    if hidden && thing == 0 {
                        continue;
                    }
                    let (dx, dy) = ((x as f32 + ox - cx) * per, (cy - y as f32 - oy) * per);
                    let ray = bundle.forward + bundle.right * dx + bundle.up * dy;
                    let Some((depth, face)) = hit(ray) else {
                        continue;
                    };
                    if !solid && !self.kept(bundle.from + ray * depth, ray, scale, depth * per, at)
                    {
                        continue;
                    }
                    if thing != 0 && self.touched[at] != thing {
                        self.touched[at] = thing;
                        self.samples.covered[usize::from(thing) - 1] += 1;
                    }
                    if depth < self.samples.depth[at] {
                        self.samples.depth[at] = depth;
                        self.samples.key[at] = self.key | u32::from(face & 15);
                    }
                }
            }
        }
    }

    /// Returns whether a surface with cut-outs is solid at `point` (bundle coordinates).
    fn kept(&self, point: V3, ray: V3, scale: V3, footprint: f32, at: usize) -> bool {
        let metres = point.times(scale);
        let seed = self.surface.seed;
        match self.surface.cutout {
            Cutout::Solid => true,
            Cutout::Leaves { scale: wave, density } => {
                // On a ball, the cosine between view and normal: gaps open towards the silhouette.
                let facing = match self.surface.shape {
                    Shape::Ellipsoid { .. } => {
                        (point.dot(ray) / (point.length() * ray.length())).abs()
                    }
                    _ => 0.8,
                };
                // Gaps finer than pixels would show as noise.
                let per = 1.0 / wave.max(2.5 * footprint);
                let field = 0.5 * value3(metres * per, seed)
                    + 0.45 * value3(metres * (2.3 * per), !seed)
                    + 0.42 * value3(metres * (5.1 * per), seed ^ 0x5555);
                let edge = 1.0 - facing;
                // Large lobes make the outline uneven where it is seen edge on.
                let lobes = value3(metres * (0.22 * per), seed ^ 0x33);
                field + edge * lobes > mix(0.55, -0.75, density) + 0.95 * edge * edge
            }
            Cutout::Bars { pitch, share, mesh } => {
                let chance = || hash_unit(at as i32, 3, 1, seed);
                let bar = |coordinate: f32| {
                    if footprint > 0.6 * pitch {
                        chance() < share
                    } else {
                        (coordinate / pitch + 1000.0).fract() < share
                    }
                };
                bar(metres.x) || (mesh && bar(metres.y))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        camera::View,
        class::Class,
        config::SceneConfig,
        dice::{Dice, Part},
        labels::label,
        material::{DULL, GRASS},
        size::Size,
        vector::{Frame, UP},
        weather::Weather,
    };

    /// A level camera 3 m above the ground, with a focal length of 50 pixels.
    fn world() -> World {
        let weather = Weather::draw(&SceneConfig::default(), &mut Dice::new(1, 0, Part::Plan));
        let view = View { yaw: 0.0, pitch: 0.0, roll: 0.0, field: std::f32::consts::FRAC_PI_2 };
        let camera = Camera::new(UP * 3.0, view, Size::new(60, 100));
        let mut world = World::new(weather, camera, 1);
        world.ground = Some((GRASS, Class::Ground, None));
        world
    }

    fn board(x: f32, z: f32, half: f32) -> Shape {
        let frame = Frame::upright(v3(x, 3.0, z), 0.0);
        Shape::Block { frame, half: v3(half, half, 0.01) }
    }

    #[test]
    fn near_bodies_hide_far_ones_whatever_comes_first() {
        for swapped in [false, true] {
            let mut world = world();
            let mut builds = [(Class::Car, 0.0, 10.0, 2.0), (Class::Building, 1.0, 5.0, 1.0)];
            if swapped {
                builds.reverse();
            }
            for (class, x, z, half) in builds {
                world.of_class(class, |world| {
                    world.add(board(x, z, half), DULL);
                });
            }
            let samples = rasterise(&world);
            let (classes, boxes, _) = label(&world, &samples, &SceneConfig::default());
            // The car covers 20 x 20 pixels about the middle; the wall hides its right half.
            assert_eq!(boxes.len(), 1);
            let car = boxes[0];
            assert_eq!((car.x1, car.y1, car.x2, car.y2), (40.0, 20.0, 50.0, 40.0), "{car:?}");
            assert!((car.visible_share - 0.5).abs() < 0.03, "{car:?}");
            assert_eq!(classes[30 * 100 + 55], Class::Building.index());
            assert_eq!(classes[30 * 100 + 45], Class::Car.index());
            assert_eq!(classes[5 * 100 + 5], Class::Sky.index());
            assert_eq!(classes[50 * 100 + 5], Class::Ground.index());
            let middle = samples.depth[(30 * 100 + 45) * SAMPLES];
            assert!((middle - 9.99).abs() < 1e-3, "{middle}");
        }
    }

    #[test]
    fn decals_lie_on_the_ground_and_nowhere_else() {
        let mut world = world();
        let area = Area::Rectangle { centre: (0.0, 5.0), half: (1.0, 1.0), yaw: 0.0 };
        world.lay(area, DULL, Class::Road);
        let samples = rasterise(&world);
        let (classes, ..) = label(&world, &samples, &SceneConfig::default());
        for (at, &class) in classes.iter().enumerate() {
            let ray = world.camera.ray((at % 100) as f32 + 0.5, (at / 100) as f32 + 0.5);
            let depth = ground_depth(world.camera.frame.origin, ray);
            let (x, z) = (ray.x * depth, ray.z * depth);
            let distance = (x.abs() - 1.0).max((z - 5.0).abs() - 1.0);
            // A pixel is up to 0.25 m deep here: leave the rim alone.
            if depth.is_finite() && distance.abs() > 0.4 {
                assert_eq!(class == Class::Road.index(), distance < 0.0, "({x}, {z})");
            }
        }
        assert!(classes.contains(&Class::Road.index()));
    }
}
