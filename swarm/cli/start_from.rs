//! What a peer starts from that has learnt nothing yet.

use std::fmt;
use std::str::FromStr;

use judge::{PeerKey, State};
use serde::{Deserialize, Serialize};
use swarm::message::Statement;
use swarm::policies::Certified;

use crate::config::ConfigError;
use crate::join::JoinConfig;
use crate::model::Source;

/// `from` under `[peer]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum StartFrom {
    /// The model that `base` names, untrained.
    #[default]
    Base,
    /// The same, which must be one of the hub.
    Hub,
    /// The policy of the peer that was right most often on gold, among those that can be had; the base if there is
    /// none.
    Best,
    /// The policy of one peer, by its name or its public key.
    Peer(String),
}

impl FromStr for StartFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = text.strip_prefix("peer").and_then(|rest| rest.strip_prefix([':', ' ']));
        match (text, named.map(str::trim)) {
            ("base", _) => Ok(Self::Base),
            ("hub", _) => Ok(Self::Hub),
            ("best", _) => Ok(Self::Best),
            (_, Some(name)) if !name.is_empty() => Ok(Self::Peer(name.to_owned())),
            _ => Err(format!("{text:?} is not base, best, peer:NAME or hub")),
        }
    }
}

impl TryFrom<String> for StartFrom {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<StartFrom> for String {
    fn from(from: StartFrom) -> Self {
        from.to_string()
    }
}

impl fmt::Display for StartFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base => f.write_str("base"),
            Self::Hub => f.write_str("hub"),
            Self::Best => f.write_str("best"),
            Self::Peer(name) => write!(f, "peer:{name}"),
        }
    }
}

impl StartFrom {
    /// Whether a policy has to be fetched from other peers.
    pub(crate) fn fetches(&self) -> bool {
        matches!(self, Self::Best | Self::Peer(_))
    }

    /// Whether what is wanted can be had at all.
    ///
    /// # Errors
    /// [`ConfigError`] naming the keys that do not go together.
    pub(crate) fn check(&self, file: &str, config: &JoinConfig, base: &Source) -> Result<(), ConfigError> {
        if *self == Self::Hub && !matches!(base, Source::Hub(_)) {
            let what =
                format!("[peer] from is hub, and base = {:?} is no model of the hub", config.peer.base);
            let hint = "write base = \"owner/name\", or from = \"base\"";
            return Err(ConfigError::new(file, what, hint));
        }
        if self.fetches() && config.peer.bootstrap.is_empty() {
            let what = format!("[peer] from is {self}, and bootstrap names nobody to fetch a policy from");
            return Err(ConfigError::new(file, what, "name a running peer's address in bootstrap"));
        }
        Ok(())
    }

    /// How much a policy is wanted; more is better, nothing not at all. Accuracy on gold is what the swarm knows of a
    /// policy without believing anybody: the share of its ballots that was on right answers to prompts that were
    /// drawn afterwards.
    pub(crate) fn rank(
        &self,
        policy: &Certified,
        newest: &Statement,
        state: &State,
    ) -> Option<impl Ord + use<>> {
        let peer = &policy.peer;
        let wanted = match self {
            Self::Base | Self::Hub => false,
            Self::Best => !state.audits.is_suspended(peer) && newest.offenders.binary_search(peer).is_err(),
            Self::Peer(name) => names(name, peer),
        };
        let record = state.reputations.get(peer);
        let accuracy = record.map_or(judge::MICRO / 3, judge::Reputation::accuracy_micro);
        let tried = record.map_or(0, |record| record.gold_ballots);
        wanted.then_some((accuracy, tried, policy.round, std::cmp::Reverse(policy.policy)))
    }
}

fn names(name: &str, peer: &PeerKey) -> bool {
    peer.name() == name || peer.hex() == name
}

#[cfg(test)]
mod tests {
    use swarm::wire::Hash;

    use super::*;

    #[test]
    fn it_is_written_as_it_is_read() {
        for text in ["base", "hub", "best", "peer:quiet-fox"] {
            assert_eq!(text.parse::<StartFrom>().unwrap().to_string(), text);
        }
        assert_eq!("peer quiet-fox".parse(), Ok(StartFrom::Peer("quiet-fox".into())));
        for text in ["", "Base", "peer", "peer:", "peer: ", "quiet-fox", "peerless"] {
            assert!(
                text.parse::<StartFrom>().unwrap_err().contains("base, best, peer:NAME or hub"),
                "{text}"
            );
        }
    }

    #[test]
    fn the_best_was_right_most_often_and_is_neither_suspended_nor_convicted() {
        let peers: Vec<PeerKey> = (1..=4).map(|n| PeerKey([n; 32])).collect();
        let mut state = State::founded_by(&peers[..3]);
        for (peer, successes_micro) in peers.iter().zip([2_000_000, 2_500_000, 2_900_000]) {
            let record = state.reputations.get_mut(peer).unwrap();
            (record.successes_micro, record.gold_ballots) = (successes_micro, 9);
        }
        let mut newest = statement();
        let of = |peer: &PeerKey| Certified { peer: *peer, round: 7, policy: Hash([9; 32]) };
        let best = |newest: &Statement, state: &State| {
            let ranked = peers.iter().map(|peer| (StartFrom::Best.rank(&of(peer), newest, state), *peer));
            ranked.filter(|(rank, _)| rank.is_some()).max().unwrap().1
        };
        assert_eq!(best(&newest, &state), peers[2]);
        state.audits.records.entry(peers[2]).or_default().suspended = 3;
        assert_eq!(best(&newest, &state), peers[1]);
        newest.offenders = vec![peers[1]];
        assert_eq!(best(&newest, &state), peers[0], "a stranger has a third of all right");
        let named = StartFrom::Peer(peers[1].name());
        assert!(named.rank(&of(&peers[1]), &newest, &state).is_some(), "whoever names it wants it");
        assert!(named.rank(&of(&peers[0]), &newest, &state).is_none());
        let newer = Certified { round: 8, ..of(&peers[1]) };
        assert!(named.rank(&newer, &newest, &state) > named.rank(&of(&peers[1]), &newest, &state));
        assert!(StartFrom::Base.rank(&of(&peers[0]), &newest, &state).is_none());
    }

    fn statement() -> Statement {
        Statement {
            view: 1,
            round: 1,
            parent: Hash::default(),
            commits: Default::default(),
            answers: Default::default(),
            critiques: Default::default(),
            ballots: Default::default(),
            items: Hash::default(),
            settlement: Hash::default(),
            state: Hash::default(),
            roster: Vec::new(),
            offenders: Vec::new(),
            degraded: false,
        }
    }
}
