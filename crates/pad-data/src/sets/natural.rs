//! The order in which people number files: `2.png` before `10.png`.

use std::cmp::Ordering;

/// Compares paths with `/` between their parts, part by part; runs of digits by their number, of
/// any length.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let mut parts = (a.split('/'), b.split('/'));
    loop {
        match (parts.0.next(), parts.1.next()) {
            (Some(a), Some(b)) => match compare_part(a.as_bytes(), b.as_bytes()) {
                Ordering::Equal => {}
                unequal => return unequal,
            },
            // Equal by number (`1` and `01`) or equal altogether: any fixed order will do.
            (a_part, b_part) => {
                return a_part.is_some().cmp(&b_part.is_some()).then_with(|| a.cmp(b));
            }
        }
    }
}

fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while let (Some(&first_a), Some(&first_b)) = (a.first(), b.first()) {
        let order = if first_a.is_ascii_digit() && first_b.is_ascii_digit() {
            let (number_a, number_b) = (take_number(&mut a), take_number(&mut b));
            number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b))
        } else {
            (a, b) = (&a[1..], &b[1..]);
            first_a.cmp(&first_b)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

/// Takes the digits off the front of `text` and gives them without leading zeros.
fn take_number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    let zeros = digits.iter().position(|&digit| digit != b'0').unwrap_or(digits.len());
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_as_numbers() {
        let sorted = [
            "a/2.png",
            "a/10.png",
            "a/x9y2.png",
            "a/x9y10.png",
            "a/x10.png",
            "a-1/0.png",
            "b2/1.png",
            "b010/1.png",
            "b10/2.png",
            "z/99999999999999999999998.png",
            "z/99999999999999999999999.png",
        ];
        let mut shuffled = sorted;
        shuffled.reverse();
        shuffled.swap(2, 7);
        shuffled.sort_by(|a, b| compare(a, b));
        assert_eq!(shuffled, sorted);
        assert_eq!(compare("01.png", "1.png"), Ordering::Less);
        assert_eq!(compare("1.png", "01.png"), Ordering::Greater);
        assert_eq!(compare("a", "a/b"), Ordering::Less);
        assert_eq!(compare("", ""), Ordering::Equal);
    }
}
