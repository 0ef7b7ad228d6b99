//! What is read of a file: the flags of every program that reads images.

mod programs;

use std::path::PathBuf;

use pad_testkit::repository;
use programs::{error_line, program, stderr};

fn case(name: &str) -> PathBuf {
    repository().join("tests/golden/cases").join(name)
}

fn stats(case: &str, flags: &[&str]) -> String {
    let output = program("stats").arg(self::case(case)).args(flags).output().unwrap();
    assert!(output.status.success(), "{case} {flags:?}: {}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The numbers after `values in the files: min` and `max`.
fn range(said: &str) -> (f64, f64) {
    let line = said.lines().find(|line| line.starts_with("values in the files")).unwrap();
    let number = |name: &str| {
        let text = line.split_once(name).unwrap().1.trim();
        text.split(',').next().unwrap().parse::<f64>().unwrap()
    };
    (number("min"), number("max"))
}

#[test]
fn nodata_is_counted_and_left_out() {
    let said = stats("I04/a", &[]);
    assert!(said.contains("more pixels are masked"), "{said}");
    let (low, high) = range(&said);
    assert!(low >= 10.0 && high <= 36.5, "{said}");
    assert!(!stats("I04/plain", &[]).contains("masked"));
}

#[test]
fn one_switch_chooses_unit_and_image() {
    let folder = "I03/yolo/images/train";
    let unit = |mode: &str| stats(folder, &["--radiometric", mode]);
    let (kelvin, celsius) = (range(&unit("kelvin")), range(&unit("celsius")));
    assert!((kelvin.0 - 273.15 - celsius.0).abs() < 0.01, "{kelvin:?} {celsius:?}");
    assert_eq!(range(&unit("auto")), kelvin);
    let raw = unit("raw");
    assert!(range(&raw).0 > 1000.0 && raw.contains("16 bits") && raw.contains("60x80"), "{raw}");
    let picture = unit("picture");
    assert!(picture.contains("8 bits") && picture.contains("240x320"), "{picture}");
    // As earlier versions wrote it.
    assert_eq!(unit("false"), picture);
    let output =
        program("stats").arg(case(folder)).args(["--radiometric", "celcius"]).output().unwrap();
    assert!(stderr(&output).contains("(did you mean `celsius`?)"), "{}", stderr(&output));
}

#[test]
fn gain_controls_stand_beside_percentiles() {
    for levels in ["plateau", "plateau:0.5%", "clahe", "clahe:4,3"] {
        let said = stats("I06/u16", &["--levels", levels]);
        let mean = said.split_once("mean ").unwrap().1.split(',').next().unwrap();
        let mean: f64 = mean.parse().unwrap();
        assert!((0.1..0.9).contains(&mean), "{levels}: {mean}");
    }
}

#[test]
fn pages_are_chosen_and_files_are_sequences() {
    let multi = "I07/multi.tif";
    assert!(stats(multi, &[]).starts_with("2 images"));
    let output = program("stats").arg(case("I07b")).args(["--page", "1"]).output().unwrap();
    assert!(!output.status.success());
    let said = error_line(&output);
    assert!(said.contains("page 1 (from 0) of a file of 1 is not supported"), "{said}");
}
