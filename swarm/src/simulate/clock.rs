//! A peer's own clock: it starts anywhere and runs a little fast or slow.

use super::dice::Dice;

/// Largest distance of a clock's start from the others', in milliseconds.
pub(super) const OFFSET_MAX_MS: u64 = 30_000;
/// Largest deviation of a clock's rate, in permille.
pub(super) const RATE_MAX_PERMILLE: u64 = 100;

/// What a peer's monotonic clock shows at a moment of virtual time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    offset_ms: u64,
    rate_permille: u64,
}

impl Clock {
    /// A clock that may be off in its start (`skewed`) and its rate (`drifting`).
    pub(super) fn draw(dice: &mut Dice, skewed: bool, drifting: bool) -> Self {
        let (offset_ms, rate) = (
            dice.between(0, 2 * OFFSET_MAX_MS),
            dice.between(1000 - RATE_MAX_PERMILLE, 1000 + RATE_MAX_PERMILLE),
        );
        Self {
            offset_ms: if skewed { offset_ms } else { OFFSET_MAX_MS },
            rate_permille: if drifting { rate } else { 1000 },
        }
    }

    /// Local milliseconds at virtual time `at_ms`.
    pub(super) fn local(self, at_ms: u64) -> u64 {
        self.offset_ms.saturating_add(at_ms.saturating_mul(self.rate_permille) / 1000)
    }

    /// The first virtual millisecond at which the clock shows `local_ms` or more.
    pub(super) fn when(self, local_ms: u64) -> u64 {
        let since = local_ms.saturating_sub(self.offset_ms);
        since.saturating_mul(1000).div_ceil(self.rate_permille.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let mut dice = Dice::new(1, "clock");
        for _ in 0..1000 {
            let clock = Clock::draw(&mut dice, true, true);
            let (at, local) = (dice.below(1 << 30), dice.below(1 << 30) + 2 * OFFSET_MAX_MS);
            assert!(clock.when(clock.local(at)) <= at);
            assert!(clock.local(clock.when(local)) >= local);
            assert!(clock.local(clock.when(local) - 1) < local);
        }
    }
}
