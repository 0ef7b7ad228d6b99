//! Which picture of a file is read.

use pad_data::image::DecodeOptions;

use crate::files::{CLASSIC, HEIGHT, Page, SIZE, WIDTH, floats, masked, read, read_with};

#[test]
fn thumbnails_and_masks_are_no_pages() {
    let data = |level: u8| vec![level; HEIGHT * WIDTH];
    let full = |level: u8| Page::strip(8, 1, data(level));
    let small = || {
        let page = Page::strip(8, 1, vec![1; 256]).with(256, 16).with(257, 16).with(278, 16);
        [page.clone().with(254, 1), page.with(255, 2)]
    };
    let [new, old] = small();
    for thumbnail in [new.clone(), old] {
        let file = CLASSIC.file(&[thumbnail.clone(), full(9), thumbnail, full(7)]);
        let page = |page| {
            read_with(&file, &DecodeOptions { page, ..Default::default() }).map(|i| floats(&i)[0])
        };
        assert_eq!(page(None).unwrap(), 9.0);
        assert_eq!(page(Some(1)).unwrap(), 7.0);
        assert_eq!(
            page(Some(2)).unwrap_err().to_string(),
            "a.tif: page 2 (from 0) of a file of 2 is not supported"
        );
    }
    // Nothing but reduced images: the largest.
    let larger = full(3).with(254, 1);
    assert_eq!(floats(&read(&CLASSIC.file(&[new, larger])).unwrap())[0], 3.0);
    // A mask: zeros are without data.
    let mut bits = vec![0xFF; HEIGHT * WIDTH / 8];
    bits[0] = 0x7F;
    let mask = Page::strip(1, 1, bits).with(254, 4).with(262, 4);
    let image = read(&CLASSIC.file(&[full(9), mask.clone()])).unwrap();
    assert_eq!(masked(&image), [0]);
    // In front of its page; behind two, the second has it.
    assert_eq!(masked(&read(&CLASSIC.file(&[mask.clone(), full(9)])).unwrap()), [0]);
    let two = CLASSIC.file(&[full(9), full(8), mask]);
    let second = DecodeOptions { page: Some(1), ..Default::default() };
    assert_eq!(masked(&read_with(&two, &second).unwrap()), [0]);
    assert_eq!(masked(&read(&two).unwrap()), [0_usize; 0]);
}

#[test]
fn a_page_below_a_thumbnail_is_found() {
    let small = Page::strip(8, 1, vec![1; 256]).with(256, 16).with(257, 16).with(278, 16);
    let small = small.with(254, 1).with(330, 70_000);
    let mut file = CLASSIC.file(&[small, Page::strip(8, 1, vec![9; HEIGHT * WIDTH])]);
    // The second directory is moved from the chain below the first.
    let long = |file: &[u8], at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let first = long(&file, 4) as usize;
    let count = usize::from(u16::from_le_bytes(file[first..first + 2].try_into().unwrap()));
    let link = first + 2 + 12 * count;
    let below =
        (0..count).map(|entry| first + 2 + 12 * entry).find(|&at| file[at..at + 2] == [74, 1]);
    let second = long(&file, link).to_le_bytes();
    let below = below.unwrap();
    file[below + 8..below + 12].copy_from_slice(&second);
    file[link..link + 4].copy_from_slice(&[0; 4]);
    let image = read(&file).unwrap();
    assert_eq!((image.size(), floats(&image)[0]), (SIZE, 9.0));
}
