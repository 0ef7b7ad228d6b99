//! Shading: the apparent temperature of every pixel from sun, night sky, own heat, texture,
//! reflection, air.

use crate::{
    ground::{Effect, Rows},
    material::Material,
    noise::{fractal2, fractal3, value3},
    raster::{GroundPixel, OFFSETS, SAMPLES, Samples, area_reach},
    spot::{Spot, cover_repeated},
    vector::{UP, V3, mix, smooth_step, v3},
    world::{Cutout, World},
};

/// Shadow and heat on the ground, pixel by pixel.
struct Stains {
    shadow: Vec<f32>,
    heat: Vec<f32>,
}

/// A point to be shaded.
#[derive(Clone, Copy)]
struct Seen {
    point: V3,
    /// From the eye to the point, length 1.
    view: V3,
    footprint: f32,
    pixel: usize,
}

/// Returns the apparent temperature of every pixel, kelvin: the mean over its samples.
pub(crate) fn shade(world: &World, samples: &Samples) -> Vec<f32> {
    let stains = soak(world, samples);
    let shader = Shader { world, samples, stains };
    let width = world.camera.size.width;
    (0..world.camera.size.area())
        .map(|pixel| shader.pixel(pixel, (pixel % width) as f32, (pixel / width) as f32))
        .collect()
}

fn soak(world: &World, samples: &Samples) -> Stains {
    let area = samples.ground.len();
    let mut stains = Stains { shadow: vec![0.0; area], heat: vec![0.0; area] };
    for stain in &world.stains {
        // Half of the soft edge lies outside: a margin of pixels, somewhat larger than needed near
        // the camera.
        let Some(reach) = area_reach(&world.camera, &stain.area) else {
            continue;
        };
        let margin = (stain.softness * world.camera.focal / reach.nearest.max(0.5)).ceil() as usize;
        let margin = margin.min(world.camera.size.width);
        let rows =
            reach.y0.saturating_sub(margin)..(reach.y1 + margin).min(world.camera.size.height);
        for y in rows {
            let columns =
                reach.x0.saturating_sub(margin)..(reach.x1 + margin).min(world.camera.size.width);
            for x in columns {
                let pixel = y * world.camera.size.width + x;
                let GroundPixel { x, z, reach } = samples.ground[pixel];
                if !(0.0..f32::INFINITY).contains(&reach) {
                    continue;
                }
                let soft = 0.5 * stain.softness + 0.5 * reach;
                let inside = smooth_step(soft, -soft, stain.area.distance(x, z));
                match stain.effect {
                    Effect::Shadow(strength) => {
                        stains.shadow[pixel] = stains.shadow[pixel].max(strength * inside);
                    }
                    Effect::Heat(kelvin) => stains.heat[pixel] += kelvin * inside,
                }
            }
        }
    }
    stains
}

struct Shader<'a> {
    world: &'a World,
    samples: &'a Samples,
    stains: Stains,
}

impl Shader<'_> {
    fn pixel(&self, pixel: usize, x: f32, y: f32) -> f32 {
        let first = pixel * SAMPLES;
        let keys = &self.samples.key[first..first + SAMPLES];
        let depths = &self.samples.depth[first..first + SAMPLES];
        let mut done = [false; SAMPLES];
        let mut sum = 0.0;
        for start in 0..SAMPLES {
            if done[start] {
                continue;
            }
            // All samples of one face are shaded once, at their mean position.
            let (mut ox, mut oy, mut depth, mut count) = (0.0, 0.0, 0.0, 0.0);
            for other in start..SAMPLES {
                if keys[other] == keys[start] {
                    done[other] = true;
                    ox += OFFSETS[other].0;
                    oy += OFFSETS[other].1;
                    depth += depths[other];
                    count += 1.0;
                }
            }
            let per = 1.0 / count;
            sum += count * self.face(keys[start], pixel, (x + ox * per, y + oy * per), depth * per);
        }
        sum / SAMPLES as f32
    }

    fn face(&self, key: u32, pixel: usize, (x, y): (f32, f32), depth: f32) -> f32 {
        let world = self.world;
        let camera = &world.camera;
        let ray = camera.ray(x, y);
        let length = ray.length();
        let view = ray * (1.0 / length);
        let id = (key >> 4) as usize;
        if id == 0 {
            return world.weather.sky(view, 1.0 / camera.focal);
        }
        let depth = if id < 2 + world.decals.len() && ray.y < -1e-6 {
            // The mean depth of a slanted pixel is not the depth of its middle.
            (camera.frame.origin.y / -ray.y).min(2.0 * depth)
        } else {
            depth
        };
        let point = camera.frame.origin + ray * depth;
        let distance = depth * length;
        let seen = Seen { point, view, footprint: depth / camera.focal, pixel };
        let kelvin = if id == 1 {
            match &world.ground {
                Some((material, _, rows)) => {
                    self.ground(&seen, material, rows.as_ref(), world.seed)
                }
                None => world.weather.air,
            }
        } else if let Some(decal) = world.decals.get(id - 2) {
            self.ground(&seen, &decal.material, decal.rows.as_ref(), decal.seed)
        } else {
            self.body(&seen, id - 2 - world.decals.len(), (key & 15) as u8)
        };
        let clear = (-distance / world.weather.visibility).exp();
        mix(world.weather.air, kelvin, clear)
    }

    /// Returns the temperature of a material with normal `normal`, before texture.
    fn balance(&self, material: &Material, normal: V3, shadow: f32) -> f32 {
        let weather = &self.world.weather;
        let now = weather.sun_power * normal.dot(weather.sun).max(0.0) * (1.0 - shadow);
        let upward = normal.y.max(0.0);
        let before = 1.2 * weather.memory * (0.4 + 0.6 * upward) * (1.0 - 0.55 * shadow);
        let diffuse = 0.12 * weather.sun_power;
        let open = if normal.y < 0.0 { 0.15 } else { 0.3 + 0.7 * upward };
        weather.air
            + material.heat
            + weather.contrast
                * (material.solar * (mix(now, before, material.inertia) + diffuse)
                    + material.night * weather.cooling * open)
    }

    /// Returns the strength of textures: sun and clear nights raise it.
    fn activity(&self) -> f32 {
        let weather = &self.world.weather;
        if weather.indoor {
            return 1.0;
        }
        weather.contrast * (0.4 + 0.6 * weather.sun_power.max(0.7 * weather.cooling))
    }

    /// Returns the apparent temperature towards the eye: own radiation and reflected surroundings.
    fn apparent(&self, kelvin: f32, material: &Material, normal: V3, view: V3) -> f32 {
        let facing = -normal.dot(view);
        let grazing = (1.0 - facing.abs().min(1.0)).powi(5);
        let emissivity = material.emissivity * (1.0 - material.mirror * grazing);
        let mirrored = view + normal * (2.0 * facing);
        mix(self.world.weather.surroundings(mirrored), kelvin, emissivity)
    }

    fn ground(&self, seen: &Seen, material: &Material, rows: Option<&Rows>, seed: u32) -> f32 {
        let (shadow, heat) = match self.stains.shadow.get(seen.pixel) {
            Some(&shadow) => (shadow, self.stains.heat[seen.pixel]),
            None => (0.0, 0.0),
        };
        let at = (seen.point.x, seen.point.z);
        let slope = (-seen.view.y).max(1e-3);
        let footprint = seen.footprint / slope.sqrt();
        let mut kelvin = self.balance(material, UP, shadow) + heat;
        let fine = fractal2(at, material.scale, 6, 0.8, footprint, seed);
        let wide = fractal2(at, 11.0 * material.scale, 3, 0.6, footprint, seed ^ 0xA5A5);
        kelvin += material.grain * self.activity() * (1.15 * fine + 0.75 * wide);
        if let Some(rows) = rows {
            let (sin, cos) = rows.yaw.sin_cos();
            let across = at.0 * cos - at.1 * sin + 0.15 * rows.pitch * fine;
            let (on, _) =
                cover_repeated(across, 0.0, 0.5 * rows.pitch, rows.pitch, seen.footprint / slope);
            kelvin += rows.kelvin * self.activity() * (on - 0.5);
        }
        self.apparent(kelvin, material, UP, seen.view)
    }

    fn body(&self, seen: &Seen, index: usize, face: u8) -> f32 {
        let Some(surface) = self.world.surfaces.get(index) else {
            return self.world.weather.air;
        };
        let local = surface.shape.local(seen.point);
        let mut normal = surface.shape.normal(seen.point, face);
        if normal.dot(seen.view) > 0.0 {
            normal = -normal;
        }
        if let Cutout::Leaves { scale, .. } = surface.cutout {
            // Leaves and twigs have all orientations.
            let per = 1.0 / (0.8 * scale).max(1.5 * seen.footprint);
            let turn = |shift: f32| value3((local + v3(shift, 0.0, 0.0)) * per, surface.seed);
            normal = (normal + v3(turn(3.1), turn(17.7), turn(31.3)) * 1.1).normalized();
        }
        let textured = local + surface.anchor;
        let spot = Spot { local, textured, face, footprint: seen.footprint, seed: surface.seed };
        let look = surface.pattern.look(&spot, &surface.material);
        let material = &surface.material;
        let mut kelvin = self.balance(material, normal, 0.0);
        let texture = fractal3(textured, material.scale, 4, 0.65, seen.footprint, surface.seed);
        kelvin += material.grain * self.activity() * texture;
        if let Cutout::Leaves { scale, .. } = surface.cutout {
            // Clumps of leaves with gaps: the same noise that cuts the outline.
            let clumps = fractal3(local, 1.2 * scale, 3, 0.8, 0.5 * seen.footprint, surface.seed);
            kelvin += 1.1 * self.activity() * clumps;
        }
        // Warm bodies look cooler at grazing angles: air flows past, cloth stands off.
        let away = 1.0 + normal.dot(seen.view);
        kelvin -= 0.16 * material.heat.clamp(0.0, 20.0) * away * away;
        let mut apparent = self.apparent(kelvin, material, normal, seen.view);
        if look.share > 0.0 {
            let other = self.balance(&look.other, normal, 0.0);
            apparent =
                mix(apparent, self.apparent(other, &look.other, normal, seen.view), look.share);
        }
        apparent + look.kelvin
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        camera::{Camera, View},
        class::Class,
        config::{SceneConfig, Season},
        dice::{Dice, Part},
        ground::Area,
        material::{ASPHALT, CONCRETE, Material},
        raster::rasterise,
        shape::Shape,
        size::Size,
        vector::Frame,
        weather::Weather,
    };

    const SIDE: usize = 80;

    /// Straight down from 20 m at a summer noon, 40 m of asphalt across.
    fn noon() -> World {
        let config = SceneConfig {
            seasons: vec![Season::Summer],
            hours: [13.0, 13.0],
            ..SceneConfig::default()
        };
        let mut weather = Weather::draw(&config, &mut Dice::new(1, 0, Part::Plan));
        weather.cloud = 0.0;
        weather.sun_power = 1.0;
        weather.visibility = 1e6;
        weather.contrast = 1.0;
        let down = View {
            yaw: 0.0,
            pitch: -std::f32::consts::FRAC_PI_2,
            roll: 0.0,
            field: std::f32::consts::FRAC_PI_2,
        };
        let camera = Camera::new(v3(0.0, 20.0, 0.0), down, Size::square(SIDE));
        let mut world = World::new(weather, camera, 1);
        world.ground = Some((Material { grain: 0.0, ..ASPHALT }, Class::Road, None));
        world
    }

    fn at(image: &[f32], x: f32, z: f32) -> f32 {
        let (column, row) = ((40.0 + 2.0 * x) as usize, (40.0 - 2.0 * z) as usize);
        image[row * SIDE + column]
    }

    #[test]
    fn shadows_cool_and_heat_warms_where_they_lie() {
        let mut world = noon();
        let disc =
            |x: f32| Area::Ellipse { centre: (x, 0.0), radii: (4.0, 4.0), yaw: 0.0, ring: None };
        world.stain(disc(-10.0), 0.5, Effect::Shadow(1.0));
        world.stain(disc(10.0), 0.5, Effect::Heat(6.0));
        let image = shade(&world, &rasterise(&world));
        let (sun, shadow, hot) =
            (at(&image, 0.0, 10.0), at(&image, -10.0, 0.0), at(&image, 10.0, 0.0));
        assert!(shadow < sun - 3.0, "{shadow} {sun}");
        assert!((hot - sun - 6.0 * ASPHALT.emissivity).abs() < 0.2, "{hot} {sun}");
        assert!(sun > world.weather.air + 8.0);
    }

    #[test]
    fn faces_in_the_sun_are_warmer() {
        let mut world = noon();
        world.weather.sun = v3(0.8, 0.6, 0.0);
        // A ridge along z: its right slope faces the sun.
        let outline = [(-8.0, 0.0), (0.0, 8.0), (8.0, 0.0)];
        let frame = Frame::upright(v3(0.0, 0.0, 0.0), std::f32::consts::FRAC_PI_2);
        let plain = Material { grain: 0.0, ..CONCRETE };
        world.add(Shape::profile(frame, &outline, 12.0, 0.0, 0.0), plain);
        let image = shade(&world, &rasterise(&world));
        let (sunny, dark) = (at(&image, 4.0, 0.0), at(&image, -4.0, 0.0));
        assert!(sunny > dark + 2.0, "{sunny} {dark}");
    }

    #[test]
    fn far_things_fade_into_the_air() {
        let mut world = noon();
        world.weather.visibility = 20.0 / std::f32::consts::LN_2;
        let hazy = at(&shade(&world, &rasterise(&world)), 0.0, 0.0);
        world.weather.visibility = 1e9;
        let clear = at(&shade(&world, &rasterise(&world)), 0.0, 0.0);
        // Twenty metres halve the contrast.
        let (hazy, clear) = (hazy - world.weather.air, clear - world.weather.air);
        assert!((hazy / clear - 0.5).abs() < 0.01, "{hazy} {clear}");
    }
}
