//! Readable names for peers: brisk-otter instead of 64 hex digits.
//!
//! A name is derived from the key, so everybody calls a peer the same without a registry. There are 4096 of them:
//! enough to tell the peers on a screen apart, far too few to identify anybody. Messages carry keys, never names.

use crate::key::PeerKey;
use std::collections::BTreeMap;

#[rustfmt::skip]
const ADJECTIVES: [&str; 64] = [
    "agile", "amber", "azure", "bold", "brave", "bright", "brisk", "calm", "clever", "cosy", "crisp", "curious",
    "dapper", "deft", "eager", "early", "fair", "fleet", "fond", "frank", "fresh", "gentle", "glad", "golden",
    "grand", "happy", "hardy", "honest", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid", "lucky",
    "mellow", "merry", "mild", "modest", "neat", "nimble", "noble", "patient", "placid", "plucky", "polite", "proud",
    "quick", "quiet", "rapid", "ready", "serene", "sharp", "silver", "smooth", "snug", "sober", "steady", "sunny",
    "swift", "tidy", "vivid", "witty",
];

#[rustfmt::skip]
const ANIMALS: [&str; 64] = [
    "ant", "badger", "bat", "bear", "beaver", "bee", "bison", "camel", "cat", "cobra", "crab", "crane",
    "crow", "deer", "dingo", "dolphin", "dove", "duck", "eagle", "falcon", "ferret", "finch", "fox", "frog",
    "gecko", "goose", "hare", "hawk", "heron", "horse", "ibis", "jaguar", "koala", "lark", "lemur", "lion",
    "llama", "lynx", "magpie", "mole", "moose", "mouse", "newt", "otter", "owl", "panda", "parrot", "puffin",
    "rabbit", "raven", "robin", "salmon", "seal", "shark", "sloth", "snail", "sparrow", "stork", "swan", "tapir",
    "tiger", "toad", "walrus", "wolf",
];

impl PeerKey {
    /// The peer's readable name, such as `brisk-otter`. Two peers may share one; see [`names`].
    ///
    /// ```
    /// # use judge::PeerKey;
    /// assert_eq!(PeerKey([7; 32]).name(), "smooth-puffin");
    /// ```
    pub fn name(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"murmur/name/1\0").update(&self.0);
        let hash = hasher.finalize();
        let [first, second, ..] = hash.as_bytes();
        // 256 is a multiple of 64, so every word is equally likely.
        let word =
            |words: &[&'static str; 64], byte: u8| words.get(usize::from(byte % 64)).copied().unwrap_or("");
        format!("{}-{}", word(&ADJECTIVES, *first), word(&ANIMALS, *second))
    }
}

/// A different name for each of these peers: those that share one get the first hex digits of their keys appended,
/// all 64 if need be.
///
/// ```
/// # use judge::{PeerKey, names};
/// let names = names(&[PeerKey([1; 32]), PeerKey([2; 32])]);
/// assert_eq!(names[&PeerKey([1; 32])], PeerKey([1; 32]).name());
/// ```
pub fn names(peers: &[PeerKey]) -> BTreeMap<PeerKey, String> {
    let mut named: BTreeMap<String, Vec<PeerKey>> = BTreeMap::new();
    for peer in peers {
        named.entry(peer.name()).or_default().push(*peer);
    }
    let mut names = BTreeMap::new();
    for (name, mut peers) in named {
        peers.sort_unstable();
        peers.dedup();
        let digits = (4..64).find(|n| {
            // Sorted keys have sorted hex digits, so equal prefixes are neighbours.
            let prefixes: Vec<String> =
                peers.iter().map(|peer| peer.hex().chars().take(*n).collect()).collect();
            prefixes.is_sorted_by(|a, b| a < b)
        });
        let alone = peers.len() == 1;
        for peer in peers {
            let tag: String = peer.hex().chars().take(digits.unwrap_or(64)).collect();
            names.insert(peer, if alone { name.clone() } else { format!("{name}-{tag}") });
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn words_are_short_sorted_and_different() {
        for words in [ADJECTIVES, ANIMALS] {
            assert!(words.is_sorted_by(|a, b| a < b));
            assert!(
                words.iter().all(|w| (2..9).contains(&w.len()) && w.chars().all(|c| c.is_ascii_lowercase()))
            );
        }
    }

    #[test]
    fn a_whole_roster_gets_different_names() {
        let mut peers: Vec<PeerKey> = (0..=255_u8).map(|n| PeerKey([n; 32])).collect();
        let shared = peers.iter().map(PeerKey::name).collect::<BTreeSet<_>>().len();
        assert!(shared < 256, "the case is only worth something with a collision");
        let twin = |last| {
            let mut key = [7; 32];
            key[31] = last;
            PeerKey(key)
        };
        let base = peers[7].name();
        peers.extend((0..=255).map(twin).filter(|twin| twin.name() == base)); // [7; 32] again, and perhaps others
        let named = names(&peers);
        let distinct: BTreeSet<&String> = named.values().collect();
        assert_eq!(distinct.len(), named.len());
        assert!(named.iter().all(|(peer, name)| name.starts_with(&peer.name())));
    }

    #[test]
    fn keys_that_differ_late_get_long_tags() {
        // Search for two keys of one name that differ in the last byte or two only.
        let keys = (0..=u16::MAX).map(|n| {
            let mut key = [9; 32];
            key[30..].copy_from_slice(&n.to_be_bytes());
            PeerKey(key)
        });
        let mut seen = BTreeMap::new();
        let (a, b) = keys.into_iter().find_map(|key| Some((seen.insert(key.name(), key)?, key))).unwrap();
        let names = names(&[a, b]);
        assert_ne!(names[&a], names[&b]);
        assert!(names[&a].len() > a.name().len() + 56);
    }
}
