//! E: what a critique does to a score, exp(3·x) for x in milli-nats, as a table of integers.
//!
//! Peers must agree on every score to the last bit, and floating-point exponentials differ between machines. The
//! table is computed by the compiler, in integers: exp(-0.003) as a power series at 64 fractional bits, then its
//! powers. Each entry is within one unit of 2⁻³² of the real value (tested), that is 4 parts in 100 000 at the
//! bottom of the table and better everywhere else.

use crate::votes::CRITIQUE_MIN;

/// Fractional bits of the table: `E(0)` is 2³².
pub(crate) const BITS: u32 = 32;

const ENTRIES: usize = CRITIQUE_MIN.unsigned_abs() as usize + 1;

static TABLE: [u64; ENTRIES] = table();

/// exp(-0.003) with 64 fractional bits, by its alternating series.
const fn step() -> u128 {
    let mut sum: u128 = 1 << 64;
    let mut term: u128 = 1 << 64;
    let mut n = 1;
    while term > 0 {
        term = term * 3 / (1000 * n);
        // The terms shrink, so the sum stays positive.
        if n.is_multiple_of(2) {
            sum += term;
        } else {
            sum -= term;
        }
        n += 1;
    }
    sum
}

const fn table() -> [u64; ENTRIES] {
    let mut entries = [0; ENTRIES];
    let step = step();
    let mut value: u128 = 1 << 64;
    let mut at = 0;
    while at < ENTRIES {
        // value <= 2^64, so the rounded entry is at most 2^32.
        entries[at] = ((value + (1 << (63 - BITS))) >> (64 - BITS)) as u64;
        // value <= 2^64 and step < 2^64 - 2^55, so the product and the rounding term stay below 2^128.
        value = (value * step + (1 << 63)) >> 64;
        at += 1;
    }
    entries
}

/// exp(3·x) with [`BITS`] fractional bits, x in milli-nats, clamped to the table's range.
pub(crate) fn e(milli_nats: i16) -> u64 {
    let at = milli_nats.clamp(CRITIQUE_MIN, 0).unsigned_abs();
    TABLE.get(usize::from(at)).copied().unwrap_or(0) // always in the table, by the clamp
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The only floats of the crate: the real exponential, to measure the table against.
    #[test]
    #[allow(clippy::float_arithmetic)]
    fn the_table_is_within_one_unit_of_the_real_exponential() {
        let unit = (-f64::from(BITS)).exp2();
        let mut worst = 0.0_f64;
        for x in CRITIQUE_MIN..=0 {
            let real = (3.0 * f64::from(x) / 1000.0).exp();
            worst = worst.max((e(x) as f64 * unit - real).abs());
            let relative = (e(x) as f64 * unit / real - 1.0).abs();
            assert!(relative < 4e-5, "E({x}) is off by {relative}");
        }
        assert!(worst <= 0.51 * unit, "off by {} units", worst / unit);
    }

    #[test]
    fn the_table_falls_from_one_and_clamps() {
        assert_eq!(e(0), 1 << BITS);
        assert_eq!(e(-4000), 26_389);
        assert!(
            (CRITIQUE_MIN..0).all(|x| e(x) < e(x + 1)),
            "strictly rising, so no critique is lost in rounding"
        );
        assert_eq!((e(i16::MAX), e(i16::MIN)), (e(0), e(-4000)));
    }
}
