//! XML files of CVAT.

use std::fs;

use pad_data::Dataset;

use super::support::{
    SQUARE, boxes, case, check_square, classes, copy_all, names, open_at, text, train,
};

#[test]
fn cvat_xml_is_read() {
    let folder = tempfile::tempdir().unwrap();
    copy_all(&case("N00/train"), &folder.path().join("images/train"));
    copy_all(&case("N00/val"), &folder.path().join("images/val"));
    let square = "<box label=\"person\" occluded=\"0\" xtl=\"30.00\" ytl=\"20.00\" xbr=\"54.00\" ybr=\"44.00\"/>";
    let outline =
        "<polygon label=\"car\" points=\"30.00,20.00;54.00,20.00;54.00,44.00\" z_order=\"0\"/>";
    let turned =
        "<box label=\"car\" xtl=\"32\" ytl=\"27\" xbr=\"52\" ybr=\"37\" rotation=\"90.0\"/>";
    let points = "<points label=\"car\" points=\"1,1\"/><tag label=\"hot\"/>";
    let image = |id: usize, name: &str, part: &str, shapes: &str| {
        format!(
            "<image id=\"{id}\" name=\"{name}\" subset=\"{part}\" width=\"80\" height=\"64\">{shapes}</image>"
        )
    };
    let write = |images: String| {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><annotations><version>1.1</version>{images}</annotations>"
        );
        fs::write(folder.path().join("annotations.xml"), text).unwrap();
    };
    let train_images = image(0, "im000.png", "Train", square)
        + &image(1, "im001.png", "Train", outline)
        + &image(2, "im002.png", "Train", turned)
        + &image(3, "im003.png", "Train", points);
    write(train_images.clone() + &image(4, "im000.png", "Validation", square));
    let set = train(&folder).unwrap();
    assert_eq!(names(&set), ["car", "person"]);
    let found = boxes(&set);
    assert_eq!(found[..2], [vec![SQUARE], vec![SQUARE]]);
    let off = found[2][0].iter().zip([37.0, 22.0, 47.0, 42.0]).map(|(a, b)| (a - b).abs());
    assert!(off.into_iter().all(|off| off < 1e-9));
    assert!(found[3].is_empty());
    // A tag is no shape.
    assert_eq!(set.left_out().shapes, 1);
    check_square(&open_at(folder.path(), "val", "cvat", &Default::default()).unwrap(), 1);
    let none = text(open_at(folder.path(), "test", "cvat", &Default::default()), &folder);
    assert_eq!(
        none,
        "ROOT/annotations.xml: expected images of the subset `test`, found subsets Train, Validation (name the part \
         `annotations.xml` for all)"
    );
    // One bad shape, one missing image.
    write(
        train_images
            + &image(5, "im009.png", "Train", square)
            + &image(
                6,
                "im004.png",
                "Train",
                "<box label=\"car\" xtl=\"x\" ytl=\"0\" xbr=\"1\" ybr=\"1\"/>",
            ),
    );
    let set = train(&folder).unwrap();
    assert_eq!((set.len(), set.left_out().images, set.left_out().faulty), (5, 1, 1));
}

#[test]
fn shapes_of_cvat_become_the_boxes_around_them() {
    let folder = tempfile::tempdir().unwrap();
    copy_all(&case("N00/train"), &folder.path().join("images"));
    let open = |shape: &str| {
        let images: String = (0..6)
            .map(|i| format!("<image id=\"{i}\" name=\"im00{i}.png\">{shape}</image>"))
            .collect();
        let text = format!("<annotations>{images}</annotations>");
        fs::write(folder.path().join("annotations.xml"), text).unwrap();
        open_at(folder.path(), "annotations.xml", "cvat", &Default::default()).unwrap()
    };
    // Half sides of the box around an ellipse of 16 and 8, turned by 45 degrees.
    let half = (128.0_f64 + 32.0).sqrt();
    let ellipse =
        |turn: &str| format!("<ellipse label=\"a\" cx=\"40\" cy=\"30\" rx=\"16\" ry=\"8\"{turn}/>");
    for (shape, expected) in [
        (ellipse(""), [24.0, 22.0, 56.0, 38.0]),
        (ellipse(" rotation=\"0\""), [24.0, 22.0, 56.0, 38.0]),
        (ellipse(" rotation=\"90.0\""), [32.0, 14.0, 48.0, 46.0]),
        (ellipse(" rotation=\"-180\""), [24.0, 22.0, 56.0, 38.0]),
        (ellipse(" rotation=\"45\""), [40.0 - half, 30.0 - half, 40.0 + half, 30.0 + half]),
        (
            "<mask label=\"a\" left=\"30\" top=\"20\" width=\"24\" height=\"24\" rle=\"576\"/>"
                .into(),
            SQUARE,
        ),
    ] {
        let found = boxes(&open(&shape))[0][0];
        let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
        assert!(off.into_iter().all(|off| off < 1e-9), "{shape}: {found:?}");
    }
    // What covers no area is counted.
    let square = "<box label=\"a\" xtl=\"30\" ytl=\"20\" xbr=\"54\" ybr=\"44\"/>";
    for (shape, count) in [
        ("<cuboid label=\"a\" xtl1=\"1\" ytl1=\"1\" xbr1=\"9\" ybr1=\"9\"/>", 6),
        ("<skeleton label=\"a\"><points label=\"b\" points=\"1,1\"/></skeleton>", 6),
        ("<polyline label=\"a\" points=\"1,1;2,2\"/><points label=\"a\" points=\"1,1\"/>", 12),
        ("<tag label=\"a\"/>", 0),
    ] {
        let set = open(&format!("{square}{shape}"));
        check_square(&set, 6);
        assert_eq!((set.left_out().shapes, set.left_out().faulty), (count, 0), "{shape}");
    }
}

/// `CVAT for video 1.1`: an object is a track over the frames.
#[test]
fn tracks_of_a_video_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    fs::create_dir_all(&images).unwrap();
    for frame in 0..4 {
        let to = images.join(format!("frame_{frame:06}.PNG"));
        fs::copy(case(&format!("N00/train/im00{frame}.png")), to).unwrap();
    }
    let shape = |frame: &str, outside: u8| {
        format!(
            "<box frame=\"{frame}\" outside=\"{outside}\" occluded=\"0\" keyframe=\"1\" xtl=\"30\" ytl=\"20\" \
             xbr=\"54\" ybr=\"44\"/>"
        )
    };
    let write = |tracks: &str| {
        let text = format!(
            "<annotations><version>1.1</version><meta><task><size>4</size></task></meta>{tracks}</annotations>"
        );
        fs::write(folder.path().join("annotations.xml"), text).unwrap();
    };
    let person = format!("{}{}{}", shape("0", 0), shape("1", 0), shape("2", 1));
    let car = shape("1", 0);
    write(&format!(
        "<track id=\"0\" label=\"person\">{person}</track><track id=\"1\" label=\"car\">{car}</track>"
    ));
    let set = open_at(folder.path(), "annotations.xml", "auto", &Default::default()).unwrap();
    assert_eq!(names(&set), ["car", "person"]);
    // The third frame shows nothing any more, the fourth never did.
    assert_eq!(boxes(&set), [vec![SQUARE], vec![SQUARE; 2], vec![], vec![]]);
    assert_eq!(classes(&set), [1, 1, 0]);
    // A frame with an object needs its file, and its number.
    let bad = format!("{person}{}{}", shape("9", 0), shape("x", 0));
    write(&format!("<track label=\"person\">{bad}</track>"));
    let set = open_at(folder.path(), "annotations.xml", "auto", &Default::default()).unwrap();
    assert_eq!((boxes(&set).concat().len(), set.left_out().faulty), (2, 1));
    assert_eq!(set.left_out().images, 1);
    // A skeleton and a cuboid are counted, where they are seen.
    let others = "<skeleton frame=\"0\" outside=\"0\"/><skeleton frame=\"1\" outside=\"1\"/>";
    write(&format!(
        "<track label=\"person\">{person}</track><track label=\"person\">{others}</track>\
         <track label=\"car\"><cuboid frame=\"3\" outside=\"0\"/></track>"
    ));
    let set = open_at(folder.path(), "annotations.xml", "auto", &Default::default()).unwrap();
    assert_eq!((boxes(&set).concat().len(), set.left_out().shapes), (2, 2));
}

/// Tasks of a project each count their frames from 0.
/// A description may claim any number of frames: those without a file and an object cost nothing.
#[test]
fn frames_that_are_only_claimed_cost_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let image = case("N00/train").join("im000.png");
    fs::create_dir(folder.path().join("images")).unwrap();
    for number in [7, 50] {
        fs::copy(&image, folder.path().join(format!("images/frame_{number:06}.png"))).unwrap();
    }
    let track = "<track label=\"person\"><box frame=\"50\" outside=\"0\" xtl=\"30\" ytl=\"20\" xbr=\"54\" \
                 ybr=\"44\"/></track>";
    let text =
        format!("<annotations><meta><task><size>1048576</size></task></meta>{track}</annotations>");
    fs::write(folder.path().join("annotations.xml"), text).unwrap();
    let set = open_at(folder.path(), "annotations.xml", "cvat", &Default::default()).unwrap();
    let found: Vec<usize> = boxes(&set).iter().map(Vec::len).collect();
    assert_eq!(found, [0, 1]);
}

#[test]
fn tracks_of_several_tasks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["train", "val"] {
        let images = folder.path().join("images").join(part);
        fs::create_dir_all(&images).unwrap();
        fs::copy(case("N00/train/im000.png"), images.join("frame_000000.png")).unwrap();
    }
    let track = |task: usize, part: &str| {
        format!(
            "<track label=\"person\" task_id=\"{task}\" subset=\"{part}\"><box frame=\"0\" outside=\"0\" \
             xtl=\"30\" ytl=\"20\" xbr=\"54\" ybr=\"44\"/></track>"
        )
    };
    let open = |tracks: &[String], split: &str| {
        let text = format!("<annotations>{}</annotations>", tracks.concat());
        fs::write(folder.path().join("annotations.xml"), text).unwrap();
        open_at(folder.path(), split, "cvat", &Default::default())
    };
    let several =
        "ROOT/annotations.xml: tracks of 2 tasks in one file, expected one: export each task alone";
    let one_part = [track(3, "Train"), track(3, "Train"), track(8, "Train")];
    assert_eq!(text(open(&one_part, "train"), &folder), several);
    // A part of its own for each task; together they cannot be distinguished.
    let two_parts = [track(3, "Train"), track(8, "Validation")];
    for split in ["train", "val"] {
        check_square(&open(&two_parts, split).unwrap(), 1);
    }
    assert_eq!(text(open(&two_parts, "annotations.xml"), &folder), several);
}
