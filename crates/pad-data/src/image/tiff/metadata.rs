//! GDAL's tags: which value means that there is no data, and what numbers mean.

use pad_ops::text::shown;
use roxmltree::Document;

/// `value = stored * scale + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    pub(super) scale: f64,
    pub(super) offset: f64,
}

impl Scale {
    const NONE: Self = Self { scale: 1.0, offset: 0.0 };
}

/// The value of GDAL_NODATA; `None` for an empty text.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn nodata(text: &str) -> Result<Option<f64>, String> {
    let text = text.trim();
    match text.to_ascii_lowercase().as_str() {
        "" => return Ok(None),
        // As Windows writes it, too: `nan(ind)`, `1.#QNAN`.
        nan if nan.trim_start_matches('-').starts_with("nan") => return Ok(Some(f64::NAN)),
        "1.#qnan" | "-1.#ind" => return Ok(Some(f64::NAN)),
        _ => {}
    }
    let wrong = |_| format!("expected a number in GDAL_NODATA, found `{}`", shown(text));
    text.parse().map(Some).map_err(wrong)
}

/// Whether a stored number is the nodata value. Values near the largest float are written with
/// fewer digits than they have.
pub(super) fn is_nodata(stored: f64, nodata: f64) -> bool {
    if nodata.is_nan() {
        return stored.is_nan();
    }
    stored == nodata || (nodata.abs() > 1e30 && (stored / nodata - 1.0).abs() < 1e-2)
}

/// Scale and offset of the kept samples from GDAL_METADATA; empty if all are stored as they are.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn scales(metadata: Option<&str>, kept: &[usize]) -> Result<Vec<Scale>, String> {
    let mut scales = vec![Scale::NONE; kept.len()];
    let Some(text) = metadata.filter(|text| !text.is_empty()) else { return Ok(Vec::new()) };
    let document =
        Document::parse(text).map_err(|error| format!("expected XML in GDAL_METADATA: {error}"))?;
    let items = document.descendants().filter(|node| node.has_tag_name("Item"));
    for item in items {
        let role = item.attribute("role").unwrap_or_default();
        if !matches!(role, "scale" | "offset") {
            continue;
        }
        let sample = item.attribute("sample").unwrap_or("0");
        let value = item.text().unwrap_or_default().trim();
        let parsed = (sample.parse::<usize>(), value.parse::<f64>());
        let (Ok(sample), Ok(value)) = parsed else {
            let (sample, value) = (shown(sample), shown(value));
            return Err(format!(
                "expected numbers for {role} of sample {sample} in GDAL_METADATA, found `{value}`"
            ));
        };
        if !value.is_finite() || (role == "scale" && value == 0.0) {
            return Err(format!("expected a finite {role} in GDAL_METADATA, found {value}"));
        }
        let Some(place) = kept.iter().position(|&kept| kept == sample) else { continue };
        match role {
            "scale" => scales[place].scale = value,
            _ => scales[place].offset = value,
        }
    }
    match scales.iter().all(|scale| *scale == Scale::NONE) {
        true => Ok(Vec::new()),
        false => Ok(scales),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodata_is_recognised_as_it_is_written() {
        assert_eq!(nodata("").unwrap(), None);
        assert_eq!(nodata(" -9999 ").unwrap(), Some(-9999.0));
        for text in ["nan", "-NaN", "nan(ind)", "-nan(ind)", "1.#QNAN"] {
            assert!(nodata(text).unwrap().unwrap().is_nan(), "{text}");
        }
        assert_eq!(nodata("none").unwrap_err(), "expected a number in GDAL_NODATA, found `none`");
        // One line, whatever the file says.
        let strange = nodata("1\n2").unwrap_err();
        assert_eq!(strange, "expected a number in GDAL_NODATA, found `1\\n2`");
        let lowest = f64::from(f32::MIN);
        for text in ["-3.4028234663852886e+38", "-3.40282346638529e+38", "-3.4e38"] {
            assert!(is_nodata(lowest, nodata(text).unwrap().unwrap()), "{text}");
        }
        assert!(!is_nodata(20.0, -9999.0) && is_nodata(f64::NAN, f64::NAN));
    }

    #[test]
    fn scales_are_those_of_their_samples() {
        let text = "<GDALMetadata><Item name=\"OFFSET\" sample=\"0\" role=\"offset\">-273.15</Item>\
                    <Item name=\"SCALE\" sample=\"0\" role=\"scale\">0.01</Item>\
                    <Item name=\"DATE\">now</Item></GDALMetadata>";
        let scale = Scale { scale: 0.01, offset: -273.15 };
        assert_eq!(scales(Some(text), &[0]).unwrap(), [scale]);
        assert_eq!(scales(Some(text), &[1]).unwrap(), []);
        assert_eq!(scales(Some(text), &[1, 0]).unwrap(), [Scale::NONE, scale]);
        assert_eq!(scales(None, &[0]).unwrap(), []);
        let wrong = text.replace("0.01", "x");
        assert_eq!(
            scales(Some(&wrong), &[0]).unwrap_err(),
            "expected numbers for scale of sample 0 in GDAL_METADATA, found `x`"
        );
        assert!(scales(Some("<a"), &[0]).unwrap_err().starts_with("expected XML in GDAL_METADATA"));
    }
}
