//! Limbs of two bones with a joint between them.

use crate::vector::V3;

/// Returns the joint and the end of a two-bone limb from `from` towards `to`, bent towards `pole`.
/// A target out of reach is approached as far as the bones allow.
pub(crate) fn two_bones(from: V3, to: V3, first: f32, second: f32, pole: V3) -> (V3, V3) {
    let line = to - from;
    let distance = line.length().clamp((first - second).abs() + 1e-3, (first + second) * 0.9995);
    let unit = line.normalized();
    let along = (first * first - second * second + distance * distance) / (2.0 * distance);
    let aside = (first * first - along * along).max(0.0).sqrt();
    let bend = (pole - unit * pole.dot(unit)).normalized();
    (from + unit * along + bend * aside, from + unit * distance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::v3;

    #[test]
    fn bones_keep_their_lengths() {
        let from = v3(0.2, 1.0, 0.1);
        for (target, reachable) in [(v3(0.1, 0.4, 0.3), true), (v3(0.0, -3.0, 1.0), false)] {
            let (joint, end) = two_bones(from, target, 0.4, 0.5, v3(0.0, 0.0, 1.0));
            assert!(((joint - from).length() - 0.4).abs() < 1e-3);
            assert!(((end - joint).length() - 0.5).abs() < 2e-3);
            // A near target is touched, a far one pointed at.
            assert_eq!((end - target).length() < 1e-4, reachable);
            let pointing = (end - from).normalized().dot((target - from).normalized());
            assert!(pointing > 0.9999, "{pointing}");
        }
    }
}
