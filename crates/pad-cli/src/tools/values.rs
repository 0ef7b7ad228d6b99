//! Values of flags, checked when the command line is read.

use pad::ImageSize;

/// A whole number of at least 1.
pub fn count(text: &str) -> Result<usize, String> {
    let number = text.trim().parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| "expected a whole number of 1 or more".into())
}

/// A number from 0 to 1.
pub fn share(text: &str) -> Result<f64, String> {
    let number = text.trim().parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 1".into())
}

/// A number above 0 and below 1.
pub fn inner_share(text: &str) -> Result<f64, String> {
    let number = text.trim().parse().ok().filter(|&number: &f64| number > 0.0 && number < 1.0);
    number.ok_or_else(|| "expected a number above 0 and below 1".into())
}

/// A number above 0, up to 1.
pub fn positive_share(text: &str) -> Result<f64, String> {
    let number = text.trim().parse().ok().filter(|&number: &f64| number > 0.0 && number <= 1.0);
    number.ok_or_else(|| "expected a number above 0, up to 1".into())
}

/// A percentile, from 0 to 100.
pub fn percentile(text: &str) -> Result<f64, String> {
    let number = text.trim().parse().ok().filter(|number| (0.0..=100.0).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 100".into())
}

/// A number of 0 or more.
pub fn not_negative(text: &str) -> Result<f64, String> {
    let number =
        text.trim().parse().ok().filter(|&number: &f64| number >= 0.0 && number.is_finite());
    number.ok_or_else(|| "expected a number of 0 or more".into())
}

/// The longest side of a network's input, pixels.
const MAX_PIXELS: usize = 1 << 15;

/// A size as `HEIGHT,WIDTH` or one number for both, in pixels.
pub fn image_size(text: &str) -> Result<ImageSize, String> {
    let side = |text: &str| text.trim().parse().ok().filter(|&side: &usize| side > 0);
    let size = match text.split_once(',') {
        Some((height, width)) => side(height).zip(side(width)),
        None => side(text).map(|side| (side, side)),
    };
    let (height, width) = size.ok_or("expected HEIGHT,WIDTH or one number for both, in pixels")?;
    if height.max(width) > MAX_PIXELS {
        return Err(format!("expected sides of at most {MAX_PIXELS} pixels"));
    }
    Ok(ImageSize { height, width })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        assert_eq!(count("3"), Ok(3));
        assert_eq!(count("0").unwrap_err(), "expected a whole number of 1 or more");
        assert_eq!(share("0.05"), Ok(0.05));
        for text in ["1.5", "-0.1", "NaN", "x", "5%"] {
            assert_eq!(share(text).unwrap_err(), "expected a number from 0 to 1", "{text}");
        }
        assert!(
            inner_share("0").is_err() && inner_share("1").is_err() && inner_share("0.2").is_ok()
        );
        assert_eq!(positive_share("1"), Ok(1.0));
        for text in ["0", "1.1", "NaN", "-1"] {
            let error = positive_share(text).unwrap_err();
            assert_eq!(error, "expected a number above 0, up to 1", "{text}");
        }
        assert!(percentile("99.9").is_ok() && percentile("101").is_err());
        assert!(not_negative("0").is_ok() && not_negative("inf").is_err());
        assert_eq!(image_size("224"), Ok(ImageSize::square(224)));
        assert_eq!(image_size("256, 320"), Ok(ImageSize::new(256, 320)));
        for text in ["", "0", "256,", "256x320", "1,2,3", "102400", "16,1000000"] {
            assert!(image_size(text).is_err(), "{text}");
        }
    }
}
