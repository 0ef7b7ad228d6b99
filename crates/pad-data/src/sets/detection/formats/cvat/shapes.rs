//! Shapes of CVAT's files.

use roxmltree::Node;

use super::super::super::{assembly::Labelled, xml::attribute};

/// The object of a shape with the name `label`; `None` for what is no area (points, lines, tags).
/// Errors are texts.
pub(super) fn object(shape: Node<'_, '_>, label: &str) -> Option<Result<Labelled, String>> {
    let edges = match shape.tag_name().name() {
        "box" => edges(shape),
        "polygon" => around(shape),
        "ellipse" => ellipse(shape),
        "mask" => window(shape),
        _ => return None,
    };
    let label = label.trim();
    Some(match label.is_empty() {
        true => Err("expected an attribute `label`, found none".into()),
        false => edges.map(|bbox| Labelled { name: label.into(), bbox, difficult: false }),
    })
}

/// A box, or that around a turned one. Errors are texts.
fn edges(node: Node<'_, '_>) -> Result<[f64; 4], String> {
    let number = |name| attribute(node, name);
    let [left, top, right, bottom] =
        [number("xtl")?, number("ytl")?, number("xbr")?, number("ybr")?];
    let turn = if node.has_attribute("rotation") { number("rotation")? } else { 0.0 };
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

/// The box around an ellipse. Errors are texts.
fn ellipse(node: Node<'_, '_>) -> Result<[f64; 4], String> {
    let number = |name| attribute(node, name);
    let (x, y, across, down) = (number("cx")?, number("cy")?, number("rx")?, number("ry")?);
    Ok([x - across, y - down, x + across, y + down])
}

/// The window of a mask. Errors are texts.
fn window(node: Node<'_, '_>) -> Result<[f64; 4], String> {
    let number = |name| attribute(node, name);
    let (left, top) = (number("left")?, number("top")?);
    Ok([left, top, left + number("width")?, top + number("height")?])
}
