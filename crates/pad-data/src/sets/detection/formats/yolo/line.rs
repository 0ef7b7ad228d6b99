//! Lines of YOLO's text files.

use pad_ops::ImageSize;

use super::super::super::assembly::Labelled;

/// Shares beyond this are no rounding and no box that reaches out of its image.
const FARTHEST: f64 = 2.0;

/// Share by which rounding may put a box outside its image.
const ROUNDING: f64 = 0.01;

/// Reads one line: the class, and a box `x y width height` or an outline `x1 y1 x2 y2 ...` of three
/// corners or more, in shares of the image's sides. The numbers stand apart by spaces, tabs, commas or
/// semicolons. `extra` numbers behind the box are key points. A score may follow a box, and the
/// number of its track the score. Errors are texts.
pub(super) fn object(
    line: &str,
    size: ImageSize,
    names: &[String],
    extra: usize,
) -> Result<Labelled, String> {
    let is_between = |letter: char| letter.is_whitespace() || matches!(letter, ',' | ';');
    let fields: Vec<&str> = line.split(is_between).filter(|field| !field.is_empty()).collect();
    let [class, numbers @ ..] = &fields[..] else {
        return Err("expected `class x y width height`, found nothing".into());
    };
    let behind = numbers.len().checked_sub(4);
    let holds_points = |behind: usize| extra > 0 && behind >= extra && behind - extra <= 2;
    let has_points = behind.is_some_and(holds_points);
    let is_box = has_points || matches!(behind, Some(0 | 1));
    if !is_box && (numbers.len() < 6 || !numbers.len().is_multiple_of(2)) {
        return Err(format!(
            "expected 5 numbers, `class x y width height`, or an outline, found {}",
            fields.len()
        ));
    }
    let name = name(class, names)?;
    let mut values = Vec::with_capacity(numbers.len());
    for text in numbers {
        let value = text.parse::<f64>();
        values.push(value.map_err(|_| format!("expected a number, found `{}`", short(text)))?);
    }
    let is_box = is_box || is_tracked(&values);
    let shares = if is_box { &values[..4] } else { &values[..] };
    if let Some(number) = shares.iter().find(|number| number.abs() > FARTHEST) {
        return Err(format!("expected shares of the image's sides, found {number} (pixels?)"));
    }
    let score = if has_points { values.get(4 + extra) } else { values.get(4) };
    if let Some(score) = score.filter(|score| is_box && !(0.0..=1.0).contains(*score)) {
        let hint = if has_points { "" } else { " (a turned box? expected its four corners)" };
        return Err(format!("expected a score of 0 to 1, found {score}{hint}"));
    }
    let edges = match (is_box, &values[..]) {
        (true, &[x, y, width, height, ..]) => {
            [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
        }
        _ => around(&values),
    };
    let (high, wide) = (size.height as f64, size.width as f64);
    let bbox = [edges[0] * wide, edges[1] * high, edges[2] * wide, edges[3] * high];
    Ok(Labelled { name: name.into(), bbox, difficult: false })
}

/// Whether numbers are a box with its score and the number of its track, and not an outline of three
/// corners. A last corner on the lower edge looks like the first track: then it is a box if that lies
/// inside the image.
fn is_tracked(numbers: &[f64]) -> bool {
    let &[x, y, width, height, score, track] = numbers else { return false };
    let is_inside = |middle: f64, side: f64| {
        let (start, end) = (middle - side / 2.0, middle + side / 2.0);
        side > 0.0 && start >= -ROUNDING && end <= 1.0 + ROUNDING
    };
    let is_number = track >= 1.0 && track.fract() == 0.0;
    let may_be = (0.0..=1.0).contains(&score) && is_number;
    may_be && (track > 1.0 || (is_inside(x, width) && is_inside(y, height)))
}

/// The box around an outline; NaN where a corner is NaN.
fn around(corners: &[f64]) -> [f64; 4] {
    let extreme = |axis: usize, choose: fn(f64, f64) -> f64| {
        let along = corners.iter().skip(axis).step_by(2).copied();
        let any_nan = along.clone().any(f64::is_nan);
        along.reduce(choose).filter(|_| !any_nan).unwrap_or(f64::NAN)
    };
    [extreme(0, f64::min), extreme(1, f64::min), extreme(0, f64::max), extreme(1, f64::max)]
}

/// The name of a class: by its number, or as it is. Errors are texts.
fn name<'a>(class: &str, names: &'a [String]) -> Result<&'a str, String> {
    let number = class.parse::<f64>().ok().filter(|number| *number >= 0.0 && number.fract() == 0.0);
    let by_number = number.and_then(|number| names.get(number as usize));
    let found = by_number.or_else(|| names.iter().find(|name| *name == class));
    let refuse = || format!("expected a class below {}, found `{}`", names.len(), short(class));
    found.map(String::as_str).ok_or_else(refuse)
}

/// The first letters of a text from a file.
fn short(text: &str) -> String {
    text.chars().take(60).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, extra: usize) -> Result<(String, [f64; 4]), String> {
        let names = ["person", "traffic-light"].map(String::from);
        let read = object(line, ImageSize::new(40, 80), &names, extra);
        read.map(|labelled| (labelled.name, labelled.bbox))
    }

    #[test]
    fn boxes_and_outlines_are_read() {
        let is = |name: &str| Ok((name.to_string(), [20.0, 10.0, 60.0, 30.0]));
        for line in [
            "0 0.5 0.5 0.5 0.5",
            "0.0\t0.5\t0.5\t0.5\t5e-1\r",
            "0, 0.5, 0.5, 0.5, 0.5",
            "person 0.5 0.5 0.5 0.5",
            // With its score, and the number of its track.
            "0 0.5 0.5 0.5 0.5 0.93",
            "0 0.5 0.5 0.5 0.5 0.93 1",
            "0 0.5 0.5 0.5 0.5 1 712",
            // An outline, and a turned box by its corners.
            "0 0.25 0.25 0.75 0.25 0.75 0.75",
            "0 0.25 0.5 0.5 0.25 0.75 0.5 0.5 0.75",
        ] {
            assert_eq!(read(line, 0), is("person"), "{line}");
        }
        assert_eq!(read("1 0.5 0.5 0.5 0.5 0.1 0.1 2 0.2 0.2 2", 6), is("traffic-light"));
        // Key points, then the score and the track.
        for line in ["1 0.5 0.5 0.5 0.5 0.1 0.1 0.9", "1 0.5 0.5 0.5 0.5 0.1 0.1 0.9 3"] {
            assert_eq!(read(line, 2), is("traffic-light"), "{line}");
        }
        // A corner on the lower edge is not the first track.
        let corner = read("0 0.25 0.25 0.75 0.25 0.5 1", 0).unwrap();
        assert_eq!(corner.1, [20.0, 10.0, 60.0, 40.0]);
        let wrong = |line| read(line, 0).unwrap_err();
        assert_eq!(
            wrong("0 0.5 0.5 0.5 0.5 -45"),
            "expected a score of 0 to 1, found -45 (a turned box? expected its four corners)"
        );
        assert!(wrong("0 0.5 0.5 0.5 0.5 1.57").contains("found 1.57 (a turned box?"));
        assert!(wrong("0 0.5 0.5 0.5 0.5 nan").contains("expected a score of 0 to 1, found NaN"));
        assert_eq!(
            read("1 0.5 0.5 0.5 0.5 0.1 0.1 7", 2).unwrap_err(),
            "expected a score of 0 to 1, found 7"
        );
        assert!(wrong("0 0.5 0.5 0.5 0.5 7 1").ends_with("found 7 (pixels?)"));
        assert!(read("0 0.5 0.5 0.5", usize::MAX).is_err());
        assert_eq!(
            wrong("0 0.5 0.5 0.5"),
            "expected 5 numbers, `class x y width height`, or an outline, found 4"
        );
        assert!(wrong("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4").ends_with("found 8"));
        assert_eq!(wrong("2 0.5 0.5 0.5 0.5"), "expected a class below 2, found `2`");
        assert_eq!(wrong("-1 0.5 0.5 0.5 0.5"), "expected a class below 2, found `-1`");
        assert_eq!(wrong("0 0.5 0.5 a 0.5"), "expected a number, found `a`");
        let pixels = "expected shares of the image's sides, found 30 (pixels?)";
        assert_eq!(wrong("0 30 20 24 24"), pixels);
        assert_eq!(wrong("0 0.2 30 0.2 44 0.6 44"), pixels);
        assert!(read("0 nan 0.2 0.3 0.4 0.5 0.6", 0).unwrap().1[0].is_nan());
    }
}
