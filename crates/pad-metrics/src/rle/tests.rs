use proptest::prelude::*;
use serde::Deserialize;

use super::*;

/// Polygons and their masks by pycocotools.
#[derive(Deserialize)]
struct Fill {
    size: [usize; 2],
    polygons: Vec<Vec<f64>>,
    counts: String,
    area: u64,
}

fn mask(rows: &[&str]) -> Rle {
    let size = ImageSize::new(rows.len(), rows[0].len());
    let inside = |row: usize, column: usize| rows[row].as_bytes()[column] == b'#';
    Rle::within(size, Rect::whole(size), inside).unwrap()
}

#[test]
fn outlines_are_filled_as_pycocotools_does() {
    let path = pad_testkit::golden_folder().join("detection/masks_fills.json");
    let fills: Vec<Fill> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    pad_testkit::expect_cases(fills.len(), 101..);
    for (place, Fill { size: [height, width], polygons, counts, area }) in fills.iter().enumerate()
    {
        let rle = Rle::of_polygons(ImageSize::new(*height, *width), polygons).unwrap();
        assert_eq!(rle.to_text(), *counts, "outline {place}");
        assert_eq!(rle.area(), *area, "outline {place}");
        assert_eq!(Rle::parse(rle.size(), counts).unwrap(), rle, "outline {place}");
    }
}

#[test]
fn runs_go_down_the_columns() {
    let rle = mask(&["..#.", ".##.", ".#.."]);
    assert_eq!(rle.counts(), [4, 4, 4]);
    assert_eq!(rle.area(), 4);
    assert_eq!(rle.bounds(), Some(Rect { top: 0, left: 1, height: 3, width: 2 }));
    assert_eq!(
        rle.window(Rect { top: 1, left: 2, height: 4, width: 3 })[..3],
        [true, false, false]
    );
    assert_eq!(mask(&["##", "##"]).counts(), [0, 4]);
    assert_eq!(mask(&["..", ".."]).bounds(), None);
}

#[test]
fn masks_meet() {
    let (a, b) = (mask(&["##..", "##..", "...."]), mask(&[".##.", ".##.", ".##."]));
    assert_eq!(a.intersection(&b).unwrap(), 2);
    let all = Rle::union(a.size(), &[a.clone(), b]).unwrap();
    assert_eq!(all, mask(&["###.", "###.", ".##."]));
    assert_eq!(
        a.intersection(&mask(&["#"])).unwrap_err().to_string(),
        "`mask` is 1x1, expected a mask of 3x4"
    );
}

#[test]
fn masks_of_another_size_show_the_same() {
    let small = mask(&["..#.", ".##.", "...."]);
    let large = small.resized(ImageSize::new(6, 8)).unwrap();
    assert_eq!(
        large,
        mask(&["....##..", "....##..", "..####..", "..####..", "........", "........"])
    );
    assert_eq!(large.resized(small.size()).unwrap(), small);
    assert_eq!(small.resized(ImageSize::new(3, 4)).unwrap(), small);
    let empty = Rle::empty(ImageSize::new(3, 4)).unwrap();
    assert_eq!(empty.resized(ImageSize::new(9, 2)).unwrap().area(), 0);
    assert!(small.resized(ImageSize::new(usize::MAX, 2)).is_err());
}

#[test]
fn both_forms_of_runs_are_read_and_bad_ones_refused() {
    let read = |text: &str| serde_json::from_str::<Segmentation>(text);
    let runs = r#"{"size": [3, 4], "counts": [4, 4, 4]}"#;
    let expected = mask(&["..#.", ".##.", ".#.."]);
    assert_eq!(read(runs).unwrap(), Segmentation::Runs(expected.clone()));
    let written = serde_json::to_string(&expected).unwrap();
    assert_eq!(written, r#"{"size":[3,4],"counts":"444"}"#);
    assert_eq!(serde_json::from_str::<Rle>(&written).unwrap(), expected);
    let size = ImageSize::new(3, 4);
    let refused = |text| Rle::parse(size, text).unwrap_err().to_string();
    assert_eq!(
        refused("44"),
        "`mask` is a sum of 8, expected runs that add up to the pixels of 3x4"
    );
    assert_eq!(refused("44\u{7f}"), "`counts` is byte 127, expected characters from `0` to `o`");
    assert_eq!(refused("4d"), "`counts` is cut off inside a number, expected whole numbers");
    assert_eq!(refused("4L"), "`counts` is a length of -4, expected lengths of at least 0");
    assert_eq!(
        refused("ooooooooooooo"),
        "`counts` is a longer number, expected numbers of at most 7 characters"
    );
    let outline = |polygon: &[f64]| {
        Segmentation::Polygons(vec![polygon.to_vec()]).rle(size).unwrap_err().to_string()
    };
    assert_eq!(
        outline(&[0.0, 0.0, 2.0, 2.0]),
        "`polygon` is 4 coordinates, expected an even number of at least 6"
    );
    assert_eq!(
        outline(&[0.0, 0.0, 2.0, f64::NAN, 1.0, 1.0]),
        "`polygon` is NaN at index 3, expected coordinates of -9 to 12"
    );
    let zigzag: Vec<f64> =
        (0..4000).flat_map(|i| [f64::from(i % 2) * 8.0, f64::from(i % 3)]).collect();
    let crossings = Segmentation::Polygons(vec![zigzag]).rle(ImageSize::new(4, 8)).unwrap_err();
    assert_eq!(
        crossings.to_string(),
        "`polygon` is more than 4096 crossings, expected an outline that crosses few columns twice"
    );
    let other = Segmentation::Runs(expected).rle(ImageSize::new(4, 3)).unwrap_err().to_string();
    assert_eq!(other, "`mask` is 3x4, expected a mask of the image's 4x3");
    assert!(Rle::empty(ImageSize::new(usize::MAX, 2)).is_err());
}

proptest! {
    #[test]
    fn any_word_and_any_outline_is_read_or_refused(
        text in "[0-o]{0,12}|.{0,8}",
        polygon in prop::collection::vec(-30.0_f64..60.0, 0..14),
    ) {
        let size = ImageSize::new(20, 30);
        if let Ok(rle) = Rle::parse(size, &text) {
            prop_assert_eq!(Rle::parse(size, &rle.to_text()).unwrap(), rle);
        }
        if let Ok(rle) = Rle::of_polygons(size, &[polygon]) {
            prop_assert_eq!(rle.window(Rect::whole(size)).len(), size.area());
        }
    }

    #[test]
    fn runs_hold_every_pixel(height in 1_usize..12, width in 1_usize..12, bits in any::<[u64; 3]>()) {
        let size = ImageSize::new(height, width);
        let at = |row: usize, column: usize| {
            let place = row * width + column;
            bits[place / 64] >> (place % 64) & 1 == 1
        };
        let rle = Rle::within(size, Rect::whole(size), at).unwrap();
        let pixels: Vec<bool> =
            (0..size.area()).map(|place| at(place / width, place % width)).collect();
        prop_assert_eq!(rle.window(Rect::whole(size)), pixels.clone());
        prop_assert_eq!(rle.area(), pixels.iter().filter(|&&pixel| pixel).count() as u64);
        prop_assert_eq!(Rle::parse(size, &rle.to_text()).unwrap(), rle.clone());
        if let Some(bounds) = rle.bounds() {
            let inside = rle.window(bounds).iter().filter(|&&pixel| pixel).count() as u64;
            prop_assert_eq!(inside, rle.area());
            let again = Rle::within(size, bounds, at).unwrap();
            prop_assert_eq!(again, rle);
        }
    }
}
