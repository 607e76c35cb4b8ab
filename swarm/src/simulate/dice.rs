//! The one source of chance of a simulation: a seeded, portable generator.

use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::wire::Hash;

/// A generator for one purpose of one seed.
#[derive(Clone, Debug)]
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// Draws for `purpose` do not depend on those for any other.
    pub(super) fn new(seed: u64, purpose: &str) -> Self {
        let key = Hash::of("murmur v1 simulation", &[&seed.to_le_bytes(), purpose.as_bytes()]);
        Self(ChaCha8Rng::from_seed(key.0))
    }

    /// A number below `n`; 0 when `n` is 0.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        // The high half of the product is below n.
        ((u128::from(self.0.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True so many times in a thousand.
    pub(super) fn chance(&mut self, permille: u64) -> bool {
        permille > 0 && self.below(1000) < permille
    }

    /// An element, or `None` of an empty list.
    pub(super) fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.below(list.len() as u64) as usize)
    }

    /// Thirty-two random bytes.
    pub(super) fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&self.0.next_u64().to_le_bytes()));
        bytes
    }
}
