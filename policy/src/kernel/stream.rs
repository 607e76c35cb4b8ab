//! Reading memory as fast as it comes: the measure of its bandwidth.

use super::isa::for_every_instruction_set;

for_every_instruction_set! {
    /// The wrapping sum of all words.
    pub(crate) fn sum_words(words: &[u64]) -> u64 {
        words.iter().fold(0, |sum, word| sum.wrapping_add(*word))
    }
}

#[cfg(test)]
mod tests {
    use super::sum_words;

    #[test]
    fn every_word_counts_once() {
        for n in [0_u64, 1, 31, 32, 33, 999] {
            let words: Vec<u64> = (0..n).map(|i| u64::MAX - 1000 * 1000 + i * i + i).collect();
            let expected = words.iter().map(|word| u128::from(*word)).sum::<u128>() as u64;
            assert_eq!(sum_words(&words), expected, "{n}");
        }
    }
}
