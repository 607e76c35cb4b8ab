//! Planted cases: answers that a peer spoils on purpose, to see whether its auditors look at them.
//!
//! One completion a prompt, the last, in one character: first of the reasoning, where that has a digit, so that the
//! vote hardly feels it. The peer does not learn from what it spoilt.

use policy::Group;

/// Spoils the last completion of every prompt.
pub(crate) fn spoil(completions: &mut [Vec<String>]) {
    for text in completions.iter_mut().filter_map(|texts| texts.last_mut()) {
        *text = spoilt(text);
    }
}

/// The text with its first digit another one; with its first letter another one if there is no digit.
fn spoilt(text: &str) -> String {
    let digit = text.find(|c: char| c.is_ascii_digit());
    let Some(at) = digit.or_else(|| text.find(|c: char| c.is_ascii_alphabetic())) else { return "0".into() };
    let other = match text.as_bytes()[at] {
        b'9' | b'z' => '0',
        b'Z' => 'a',
        byte => char::from(byte + 1),
    };
    let mut spoilt = text.to_owned();
    spoilt.replace_range(at..=at, other.encode_utf8(&mut [0; 4]));
    spoilt
}

/// What is left to learn from of a round with spoilt answers.
pub(crate) fn unspoilt(rewarded: Vec<(Group, Vec<f32>)>) -> Vec<(Group, Vec<f32>)> {
    let rest = |(group, mut rewards): (Group, Vec<f32>)| {
        let mut rollouts = group.into_rollouts();
        rollouts.pop();
        rewards.pop();
        Some((Group::new(rollouts).ok()?, rewards))
    };
    rewarded.into_iter().filter_map(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_character_is_another_one() {
        for (text, expected) in [
            ("<think>17+25=42</think><answer>42</answer>", "<think>27+25=42</think><answer>42</answer>"),
            ("<answer>9</answer>", "<answer>0</answer>"),
            ("<answer>B</answer>", "<bnswer>B</answer>"),
            ("zZ", "0Z"),
            ("", "0"),
            ("…", "0"),
        ] {
            assert_eq!(spoilt(text), expected);
        }
        let mut all = vec![vec!["1".to_owned(), "1".to_owned()], Vec::new()];
        spoil(&mut all);
        assert_eq!(all, [vec!["1".to_owned(), "2".to_owned()], Vec::new()]);
    }
}
