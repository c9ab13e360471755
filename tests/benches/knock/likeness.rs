//! Whether two samples may well be of one distribution, whatever that is: the test of Kolmogorov and
//! Smirnov.

use std::time::Duration;

/// The greatest distance between the parts of either sample that lie below any one time.
pub fn distance(these: &[Duration], those: &[Duration]) -> f64 {
    let [mut these, mut those] = [these, those].map(<[Duration]>::to_vec);
    these.sort();
    those.sort();
    let part = |sorted: &[Duration], below: Duration| {
        sorted.partition_point(|time| *time <= below) as f64 / sorted.len() as f64
    };
    let apart = |time: &Duration| (part(&these, *time) - part(&those, *time)).abs();
    these.iter().chain(&those).map(apart).fold(0.0, f64::max)
}

/// How often two samples of so many, of one distribution, are as far apart or farther (asymptotically,
/// with Stephens' correction).
pub fn chance(distance: f64, count: usize) -> f64 {
    let root = (count as f64 / 2.0).sqrt();
    let lambda = (root + 0.12 + 0.11 / root) * distance;
    let term = |k: i32| {
        let sign = if k % 2 == 1 { 2.0 } else { -2.0 };
        sign * (-2.0 * (f64::from(k) * lambda).powi(2)).exp()
    };
    (1..=100).map(term).sum::<f64>().clamp(0.0, 1.0)
}

/// The distance that one in twenty such pairs reaches.
pub fn one_in_twenty(count: usize) -> f64 {
    1.358 * (2.0 / count as f64).sqrt()
}
