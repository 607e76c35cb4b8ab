//! What a chart shows of figures by round: stretches without gaps, and an axis that one outlier does not flatten.

/// A round and a value.
pub(crate) type Point = (f64, f64);

/// Part of the values on each side that may lie beyond an axis, at least one of them.
const OUTLIERS: usize = 100;
/// Fewer values have no outliers.
const VALUES_MIN: usize = 5;
/// How many times the spread of the others a value lies from them to be one.
const FAR: f64 = 3.0;

/// Points averaged over neighbouring rounds to at most `max` of them, in stretches: a new one begins after rounds
/// without a value.
pub(crate) fn stretches(points: &[Point], max: usize) -> Vec<Vec<Point>> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Vec::new() };
    let rounds = ((last.0 - first.0 + 1.0) / max.max(1) as f64).ceil();
    let place = |point: &Point| ((point.0 - first.0) / rounds) as u64;
    let (mut stretches, mut next): (Vec<Vec<Point>>, u64) = (Vec::new(), 0);
    for part in points.chunk_by(|a, b| place(a) == place(b)) {
        let (n, at) = (part.len() as f64, part.first().map_or(0, place));
        let (x, y) = part.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        match stretches.last_mut().filter(|_| at == next) {
            Some(stretch) => stretch.push((x / n, y / n)),
            None => stretches.push(vec![(x / n, y / n)]),
        }
        next = at + 1;
    }
    stretches
}

/// The values that a chart has room for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Axis {
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// The value farthest beyond, if there are any.
    pub(crate) beyond: Option<Point>,
}

impl Axis {
    /// Of shares: all of them.
    pub(crate) const SHARE: Self = Self { low: 0.0, high: 1.0, beyond: None };

    /// An axis for these values; `None` where all are nought and there is nothing to draw.
    pub(crate) fn of<'a>(points: impl Iterator<Item = &'a Point>) -> Option<Self> {
        let mut points: Vec<Point> = points.copied().collect();
        points.sort_by(|a, b| a.1.total_cmp(&b.1));
        let (lowest, highest) = (*points.first()?, *points.last()?);
        if lowest.1 == 0.0 && highest.1 == 0.0 {
            return None;
        }
        let cut = if points.len() < VALUES_MIN { 0 } else { (points.len() / OUTLIERS).max(1) };
        let (low, high) = (points.get(cut)?.1, points.get(points.len() - 1 - cut)?.1);
        let far = if high > low { FAR * (high - low) } else { f64::INFINITY };
        let (under, over) = (low - lowest.1, highest.1 - high);
        let beyond = if over >= under { (over, highest) } else { (under, lowest) };
        let low = if under > far { low } else { lowest.1 };
        let high = if over > far { high } else { highest.1 };
        let [low, high] = wide([low, high]);
        Some(Self { low, high, beyond: Some(beyond.1).filter(|_| beyond.0 > far) })
    }

    /// The value, or the end of the axis that it lies beyond.
    pub(crate) fn clamp(&self, value: f64) -> f64 {
        value.clamp(self.low, self.high)
    }
}

/// A range with some room, and never empty.
fn wide([low, high]: [f64; 2]) -> [f64; 2] {
    let room = if high > low { (high - low) * 0.05 } else { high.abs() * 0.1 };
    // What is never negative has no negative axis.
    let below = if low < 0.0 { low - room } else { (low - room).max(0.0) };
    [below, high + room]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[f64]) -> Vec<Point> {
        values.iter().enumerate().map(|(round, value)| (round as f64, *value)).collect()
    }

    #[test]
    fn a_round_without_a_value_leaves_a_gap() {
        let all = [(1.0, 1.0), (2.0, 3.0), (5.0, 5.0), (6.0, 7.0)];
        assert_eq!(stretches(&all, 100), [all[..2].to_vec(), all[2..].to_vec()]);
        // Two rounds a point: 1 and 2, none of 3 and 4, 5 and 6.
        assert_eq!(stretches(&all, 3), [[(1.5, 2.0)], [(5.5, 6.0)]]);
        assert_eq!(stretches(&all, 1), [[(3.5, 4.0)]]);
        assert_eq!(stretches(&[], 5), Vec::<Vec<Point>>::new());
    }

    #[test]
    fn one_outlier_does_not_flatten_the_others() {
        let axis = Axis::of(points(&[9.0, 1.0, 1.1, 1.2, 1.1, 1.0]).iter()).unwrap();
        assert!(axis.high < 1.5 && axis.low > 0.9 && axis.beyond == Some((0.0, 9.0)), "{axis:?}");
        assert_eq!(axis.clamp(9.0), axis.high);
        let axis = Axis::of(points(&[1.0, 1.1, -5.0, 1.2, 1.1, 1.0]).iter()).unwrap();
        assert!(axis.low > 0.9 && axis.beyond == Some((2.0, -5.0)), "{axis:?}");
        let falling: Vec<f64> = (0..20).map(|round| 2.0 * 0.8f64.powi(round)).collect();
        let axis = Axis::of(points(&falling).iter()).unwrap();
        assert!(axis.high > 2.0 && axis.beyond.is_none(), "a curve that falls has none: {axis:?}");
    }

    #[test]
    fn an_axis_is_never_empty() {
        assert_eq!(Axis::of(points(&[0.0, 0.0]).iter()), None);
        for values in [&[3.0][..], &[2.0; 9], &[0.0, 0.0, 0.0, 0.0, 0.0, 1.0], &[-1.0, -1.0]] {
            let axis = Axis::of(points(values).iter()).unwrap();
            assert!(axis.low < axis.high && axis.beyond.is_none(), "{values:?}: {axis:?}");
        }
    }
}
