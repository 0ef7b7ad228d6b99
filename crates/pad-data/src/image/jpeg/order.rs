//! The zigzag order of coefficients.

/// Place of the n-th coded coefficient in a block (row-major), padded for a run beyond the end.
pub(super) const ORDER: [u8; 64 + 16] = {
    let mut order = [63; 64 + 16];
    let (mut index, mut diagonal) = (0, 0);
    while diagonal < 15 {
        let mut step = 0;
        while step <= diagonal {
            // Odd diagonals run downwards, even ones upwards.
            let (row, column) =
                if diagonal % 2 == 1 { (step, diagonal - step) } else { (diagonal - step, step) };
            if row < 8 && column < 8 {
                order[index] = (row * 8 + column) as u8;
                index += 1;
            }
            step += 1;
        }
        diagonal += 1;
    }
    order
};
