//! What is recorded of things that people may want to know.

use serde::{Deserialize, Serialize};

/// One line of `events.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Event {
    /// When, RFC 3339 in UTC.
    pub(crate) at: String,
    /// Round, from 1; 0 before the first.
    pub(crate) round: u32,
    pub(crate) level: Level,
    /// What kind of thing, such as `peer_left`.
    pub(crate) kind: String,
    /// Name of the peer of this process that tells it.
    pub(crate) peer: String,
    /// Names of the others that told the same, where events were folded; never in the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) also: Vec<String>,
    /// What happened, in a sentence.
    pub(crate) text: String,
}

impl Event {
    /// Whether a peer of this process tells it.
    pub(crate) fn is_of(&self, peer: &str) -> bool {
        self.peer == peer || self.also.iter().any(|other| other == peer)
    }

    /// Whether it tells what another peer told already.
    pub(crate) fn repeats(&self, earlier: &Self) -> bool {
        self.round == earlier.round
            && self.kind == earlier.kind
            && self.text == earlier.text
            && !earlier.is_of(&self.peer)
    }

    /// Who tells it, of so many peers of this process.
    pub(crate) fn tellers(&self, peers: usize) -> String {
        match self.also.len() + 1 {
            1 => self.peer.clone(),
            all if all == peers => format!("all {all} peers"),
            some => format!("{some} of {peers} peers"),
        }
    }
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    #[default]
    Info,
    /// Something was lost; the run goes on.
    Warn,
    /// Somebody must do something.
    Error,
}
