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
