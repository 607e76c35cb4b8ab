//! Which members of a roster: one bit a member, in roster order.

use serde::{Deserialize, Serialize};

use crate::limits::ROSTER_MAX;

/// A set of roster positions; bit `i % 8` of byte `i / 8` is member `i`.
///
/// ```
/// let set: swarm::bitmap::Bitmap = [0, 3].into_iter().collect();
/// assert!(set.contains(3) && !set.contains(2));
/// assert_eq!(set.iter().collect::<Vec<_>>(), [0, 3]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bitmap(#[serde(with = "serde_bytes")] Vec<u8>);

impl Bitmap {
    /// Whether position `i` is in the set.
    pub fn contains(&self, i: usize) -> bool {
        self.0.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1)
    }

    /// Positions in rising order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.0.len() * 8).filter(|&i| self.contains(i))
    }

    /// Number of positions in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this is the only form of a set over a roster of `members`: no position beyond the
    /// roster and no trailing zero byte. Two forms of one set would have two hashes.
    pub fn is_canonical(&self, members: usize) -> bool {
        members <= ROSTER_MAX && self.0.last() != Some(&0) && self.iter().all(|i| i < members)
    }
}

impl FromIterator<usize> for Bitmap {
    fn from_iter<I: IntoIterator<Item = usize>>(positions: I) -> Self {
        let mut bytes = Vec::new();
        for i in positions.into_iter().filter(|&i| i < ROSTER_MAX) {
            if bytes.len() <= i / 8 {
                bytes.resize(i / 8 + 1, 0);
            }
            bytes[i / 8] |= 1 << (i % 8);
        }
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_forms_of_a_set_are_refused() {
        assert!([1, 9].into_iter().collect::<Bitmap>().is_canonical(10));
        assert!(!([1, 9].into_iter().collect::<Bitmap>().is_canonical(9)), "beyond the roster");
        assert!(!Bitmap(vec![1, 0]).is_canonical(16), "trailing zero");
        assert!(Bitmap::default().is_canonical(0));
    }
}
