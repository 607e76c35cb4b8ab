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
        for n in [0, 1, 31, 32, 33, 1000] {
            let words: Vec<u64> = (0..n).map(|i| (i * i).wrapping_add(u64::MAX - 7)).collect();
            let expected = words.iter().map(|word| u128::from(*word)).sum::<u128>() as u64;
            assert_eq!(sum_words(&words), expected, "{n}");
        }
    }
}
