//! Shapes of CVAT's files.

use roxmltree::Node;

use super::super::super::{assembly::Labelled, xml::attribute};

/// What an element inside an image or a track is.
pub(super) enum Shape {
    /// The object of an area, or what is wrong with it.
    Area(Result<Labelled, String>),
    /// A shape that covers no area of the image, by its element.
    NoArea(String),
    /// No shape: a tag, an attribute.
    Other,
}

/// Reads a shape with the name `label`.
pub(super) fn shape(shape: Node<'_, '_>, label: &str) -> Shape {
    let edges = match shape.tag_name().name() {
        "box" => edges(shape),
        "polygon" => around(shape),
        "ellipse" => ellipse(shape),
        "mask" => window(shape),
        kind @ ("points" | "polyline" | "cuboid" | "skeleton") => {
            return Shape::NoArea(kind.into());
        }
        _ => return Shape::Other,
    };
    let label = label.trim();
    Shape::Area(match label.is_empty() {
        true => Err("expected an attribute `label`, found none".into()),
        false => edges.map(|bbox| Labelled { name: label.into(), bbox, difficult: false }),
    })
}

/// Degrees by which a shape is turned, clockwise. Errors are texts.
fn turn(node: Node<'_, '_>) -> Result<f64, String> {
    match node.has_attribute("rotation") {
        true => attribute(node, "rotation"),
        false => Ok(0.0),
    }
}

/// A box, or that around a turned one. Errors are texts.
fn edges(node: Node<'_, '_>) -> Result<[f64; 4], String> {
    let number = |name| attribute(node, name);
    let [left, top, right, bottom] =
        [number("xtl")?, number("ytl")?, number("xbr")?, number("ybr")?];
    let turn = turn(node)?;
    if turn == 0.0 {
        return Ok([left, top, right, bottom]);
    }
    let (sine, cosine) = (turn.to_radians().sin().abs(), turn.to_radians().cos().abs());
    let (x, y) = ((left + right) / 2.0, (top + bottom) / 2.0);
    let (wide, high) = ((right - left) / 2.0, (bottom - top) / 2.0);
    let (across, down) = (wide * cosine + high * sine, wide * sine + high * cosine);
    Ok([x - across, y - down, x + across, y + down])
}

/// The box around an outline `x,y;x,y;...`. Errors are texts.
fn around(node: Node<'_, '_>) -> Result<[f64; 4], String> {
    let text = node.attribute("points").unwrap_or_default();
    let point = |pair: &str| {
        let (x, y) = pair.split_once(',')?;
        Some([x.trim().parse::<f64>().ok()?, y.trim().parse::<f64>().ok()?])
    };
    let points: Option<Vec<[f64; 2]>> = text.split(';').map(point).collect();
    let points = points.filter(|points| points.len() >= 3);
    let points =
        points.ok_or("`points`: expected at least 3 points `x,y` with `;` between them")?;
    let extreme = |axis: usize, first: f64, choose: fn(f64, f64) -> f64| {
        points.iter().map(|point| point[axis]).fold(first, choose)
    };
    let (low, high) = (f64::INFINITY, f64::NEG_INFINITY);
    Ok([
        extreme(0, low, f64::min),
        extreme(1, low, f64::min),
        extreme(0, high, f64::max),
        extreme(1, high, f64::max),
    ])
}

/// The box around an ellipse, turned or not. Errors are texts.
fn ellipse(node: Node<'_, '_>) -> Result<[f64; 4], String> {
    let number = |name| attribute(node, name);
    let (x, y, wide, high) = (number("cx")?, number("cy")?, number("rx")?, number("ry")?);
    let turn = turn(node)?;
    if turn == 0.0 {
        return Ok([x - wide, y - high, x + wide, y + high]);
    }
    let (sine, cosine) = turn.to_radians().sin_cos();
    let (across, down) = ((wide * cosine).hypot(high * sine), (wide * sine).hypot(high * cosine));
    Ok([x - across, y - down, x + across, y + down])
}

/// The window of a mask. Errors are texts.
fn window(node: Node<'_, '_>) -> Result<[f64; 4], String> {
    let number = |name| attribute(node, name);
    let (left, top) = (number("left")?, number("top")?);
    Ok([left, top, left + number("width")?, top + number("height")?])
}
