//! The `[swarm]` section of a config: what all peers of a swarm must have in common.
//!
//! Its hash *is* the swarm's identity, so two peers with different sections never mix.

use judge::{PeerKey, Rules};
use serde::{Deserialize, Serialize};

use crate::limits::{
    ANSWERS_BYTES_MAX, COMPLETION_BYTES_MAX, COMPLETIONS_MAX, PROMPTS_MAX, PROTOCOL, ROSTER_MAX,
};
use crate::membership::Membership;
use crate::topic::SwarmId;
use crate::wire::{self, Hash};

/// Everything peers agree on before they meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name for people; part of the identity.
    pub name: String,
    /// Free text that sets otherwise equal swarms apart.
    #[serde(default)]
    pub seed: String,
    /// Task packs and how often each is drawn.
    pub packs: Vec<PackPin>,
    /// Hashes of the allowed starting weights; empty allows any.
    #[serde(default)]
    pub models: Vec<String>,
    /// Who may be missing or dishonest.
    #[serde(default)]
    pub faults: FaultModel,
    /// Whether the live part goes on, with degraded certificates, when there is no quorum for long. Not part of the
    /// identity while it is off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub available: bool,
    /// Who starts the swarm.
    pub genesis: Genesis,
    /// Who may join later.
    #[serde(default, skip_serializing_if = "Membership::is_open")]
    pub membership: Membership,
    /// Size and pace of a round.
    #[serde(default)]
    pub round: RoundRules,
    /// Rules of the vote.
    #[serde(default)]
    pub judge: Rules,
    /// Swarm id of the swarm this one was forked from.
    #[serde(default)]
    pub parent: Option<String>,
}

/// One task pack of a swarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PackPin {
    /// `native:NAME`, or `b3:` and the content address of a static pack.
    pub id: String,
    /// How often it is drawn, relative to the others.
    pub weight: u32,
}

/// Which failures the quorum survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FaultModel {
    /// `byzantine` for rosters of four and more, `crash` below.
    #[default]
    Auto,
    /// Fewer than a third may lie: quorum ⌊2n/3⌋ + 1.
    Byzantine,
    /// Peers may stop but do not lie: quorum is a majority.
    Crash,
}

impl FaultModel {
    /// Signatures that make a certificate over a roster of `n`.
    ///
    /// ```
    /// use swarm::manifest::FaultModel;
    /// assert_eq!([3, 4, 7].map(|n| FaultModel::Auto.quorum(n)), [2, 3, 5]);
    /// assert_eq!(FaultModel::Crash.quorum(4), 3);
    /// ```
    pub fn quorum(self, n: usize) -> usize {
        match self {
            Self::Auto if n < 4 => Self::Crash.quorum(n),
            Self::Auto | Self::Byzantine => 2 * n / 3 + 1,
            Self::Crash => n / 2 + 1,
        }
    }
}

/// Who starts the swarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// Public keys (64 hexadecimal digits) of the first roster; empty means open: the first
    /// `peers_min` peers that see each other start.
    #[serde(default)]
    pub peers: Vec<String>,
    /// Peers that must be present before the first round.
    pub peers_min: u16,
}

/// Size and pace of a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RoundRules {
    /// Prompts a round.
    pub prompts: u16,
    /// Completions a peer samples for each.
    pub completions: u16,
    /// Bytes of one completion.
    pub completion_bytes_max: u16,
    /// Tokens of one completion.
    pub new_tokens_max: u16,
    /// Sampling temperature in permille.
    pub temperature_permille: u16,
    /// Longest wait for work (answers, critiques), in milliseconds.
    pub work_deadline_ms: u32,
    /// Longest wait for messages (reveals, ballots), in milliseconds.
    pub phase_deadline_ms: u32,
    /// How long a proposer has, in milliseconds.
    pub view_deadline_ms: u32,
    /// Shortest adaptive deadline of a phase with work, in milliseconds.
    pub work_floor_ms: u32,
    /// Whether chat models also judge candidates in words. Not part of the identity while it is off.
    #[serde(skip_serializing_if = "Critiques::is_off")]
    pub critiques: Critiques,
}

/// What text critiques are for. Only models with a chat template write any; nobody is blamed for the lack of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Critiques {
    /// There are none.
    #[default]
    Off,
    /// Gold tells how far a critic can be trusted.
    Reputation,
    /// The same, and critics are trained on what gold says of their critiques.
    Train,
}

impl Critiques {
    /// Whether there are none.
    pub fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

impl Default for RoundRules {
    fn default() -> Self {
        Self {
            prompts: 24,
            completions: 8,
            completion_bytes_max: 256,
            new_tokens_max: 24,
            temperature_permille: 700,
            work_deadline_ms: 60_000,
            phase_deadline_ms: 10_000,
            view_deadline_ms: 3_000,
            work_floor_ms: 4_000,
            critiques: Critiques::Off,
        }
    }
}

/// A manifest that cannot work, and what to change.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("[swarm] {key}: {why}; hint: {hint}")]
pub struct ManifestError {
    /// The key at fault.
    pub key: &'static str,
    /// What is wrong with it.
    pub why: String,
    /// What to do.
    pub hint: String,
}

pub(crate) fn wrong(key: &'static str, why: impl Into<String>, hint: impl Into<String>) -> ManifestError {
    ManifestError { key, why: why.into(), hint: hint.into() }
}

impl Manifest {
    /// The swarm's identity: a hash over protocol version and manifest.
    pub fn id(&self) -> SwarmId {
        SwarmId(Hash::of("murmur v1 swarm", &[&PROTOCOL.to_le_bytes(), &wire::encode(self)]).0)
    }

    /// Keys of a listed genesis, sorted; empty for an open one.
    ///
    /// # Errors
    /// A key that is not 64 hexadecimal digits, or one named twice.
    pub fn genesis_peers(&self) -> Result<Vec<PeerKey>, ManifestError> {
        parse_keys("genesis.peers", &self.genesis.peers)
    }

    /// Bytes of the longest encoded list of completions to one prompt.
    pub fn body_bytes_max(&self) -> usize {
        // MessagePack puts at most five bytes before a list and before each text.
        5 + usize::from(self.round.completions) * (5 + usize::from(self.round.completion_bytes_max))
    }

    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first key out of range, with the range.
    pub fn validate(&self) -> Result<(), ManifestError> {
        let round = &self.round;
        let ranges: [(&'static str, u64, u64, u64); 10] = [
            ("round.prompts", round.prompts.into(), 1, PROMPTS_MAX.into()),
            ("round.completions", round.completions.into(), 1, COMPLETIONS_MAX.into()),
            ("round.completion_bytes_max", round.completion_bytes_max.into(), 8, COMPLETION_BYTES_MAX.into()),
            ("round.new_tokens_max", round.new_tokens_max.into(), 1, 4_096),
            ("round.work_floor_ms", round.work_floor_ms.into(), 100, round.work_deadline_ms.into()),
            ("round.temperature_permille", round.temperature_permille.into(), 1, 5_000),
            ("round.work_deadline_ms", round.work_deadline_ms.into(), 1_000, 3_600_000),
            ("round.phase_deadline_ms", round.phase_deadline_ms.into(), 500, 600_000),
            ("round.view_deadline_ms", round.view_deadline_ms.into(), 200, 600_000),
            ("genesis.peers_min", self.genesis.peers_min.into(), 1, ROSTER_MAX as u64),
        ];
        for (key, value, low, high) in ranges {
            if !(low..=high).contains(&value) {
                return Err(wrong(
                    key,
                    format!("{value} is out of range"),
                    format!("choose {low} to {high}"),
                ));
            }
        }
        let answers = [round.prompts, round.completions, round.completion_bytes_max];
        let answers: usize = answers.into_iter().map(usize::from).product();
        if answers > ANSWERS_BYTES_MAX {
            return Err(wrong(
                "round.completion_bytes_max",
                format!("{answers} bytes of completions are too many for one peer and round"),
                format!("prompts × completions × completion_bytes_max may be at most {ANSWERS_BYTES_MAX}"),
            ));
        }
        if self.packs.is_empty() || self.packs.iter().all(|pack| pack.weight == 0) {
            return Err(wrong(
                "packs",
                "no pack with a weight above 0",
                "add [[swarm.packs]] id = \"native:six\", weight = 1",
            ));
        }
        self.judge.validate().map_err(|why| wrong("judge", why.to_string(), "see the range it names"))?;
        self.membership.validate(&self.genesis_peers()?)
    }
}

/// Public keys in text, sorted.
///
/// # Errors
/// A key that is not 64 hexadecimal digits, or one named twice.
pub(crate) fn parse_keys(key: &'static str, texts: &[String]) -> Result<Vec<PeerKey>, ManifestError> {
    let parse = |text: &String| {
        parse_key(text).ok_or_else(|| {
            let hint = "64 hexadecimal digits, as `murmur key` prints them";
            wrong(key, format!("{text:?} is not a public key"), hint)
        })
    };
    let mut peers: Vec<PeerKey> = texts.iter().map(parse).collect::<Result<_, _>>()?;
    peers.sort();
    if peers.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(wrong(key, "names a peer twice", "remove the second"));
    }
    Ok(peers)
}

/// A public key from 64 hexadecimal digits.
pub fn parse_key(text: &str) -> Option<PeerKey> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(PeerKey(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(prompts: u16, completions: u16, completion_bytes_max: u16) -> Manifest {
        let round = RoundRules { prompts, completions, completion_bytes_max, ..RoundRules::default() };
        Manifest { round, ..crate::engine::tests::manifest(&[], 2) }
    }

    #[test]
    fn answers_may_be_long_but_not_without_end() {
        for (prompts, completions, bytes) in
            [(24, 8, 4_096), (16, 64, 16_384), (256, 64, 1_024), (256, 4, 16_384)]
        {
            assert_eq!(manifest(prompts, completions, bytes).validate(), Ok(()));
        }
        for (prompts, completions, bytes, part) in [
            (17, 64, 16_384, "17825792 bytes of completions are too many for one peer and round"),
            (256, 64, 1_025, "hint: prompts × completions × completion_bytes_max may be at most 16777216"),
            (1, 1, 16_385, "choose 8 to 16384"),
        ] {
            let error = manifest(prompts, completions, bytes).validate().unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("round.completion_bytes_max"), "{error}");
        }
    }
}
