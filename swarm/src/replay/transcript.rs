//! A settled round in the words of its peers: the messages that its certificate includes, and what came of them.
//!
//! It follows from the certificate, so it is the same from every log that holds the round.

use std::collections::BTreeMap;

use judge::{PeerKey, Settlement};

use crate::bitmap::Bitmap;
use crate::chain::Link;
use crate::engine::{Play, Settled, members, settled};
use crate::message::{Score, Share};
use crate::wire::Hash;

/// A settled round and what its peers said in it. Messages that came, but are not included, are not here.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// What the round came to; without durations, which no message tells.
    pub settled: Settled,
    /// Included answers by author.
    pub answers: BTreeMap<PeerKey, Answers>,
    /// Scores of candidates by author; one list a prompt.
    pub scores: BTreeMap<PeerKey, Vec<Vec<Score>>>,
    /// Ballots by author; one list a prompt.
    pub ballots: BTreeMap<PeerKey, Vec<Vec<Share>>>,
}

/// What one peer answered in a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// Hash of the weights that answered, by the peer's word.
    pub policy: Hash,
    /// Completions in sampling order; one list a prompt.
    pub completions: Vec<Vec<String>>,
}

impl Transcript {
    pub(super) fn of(play: &Play, roster: &[PeerKey], link: &Link, settlement: Settlement) -> Self {
        let statement = &link.statement;
        let said = |peer: &PeerKey| play.items.said(peer);
        let scores = |peer: &PeerKey| Some(said(peer)?.critique.as_ref()?.body.prompts.clone());
        let ballots = |peer: &PeerKey| Some(said(peer)?.ballot.as_ref()?.body.prompts.clone());
        Self {
            settled: settled(play, roster, link, settlement),
            answers: by_author(roster, &statement.answers, |peer| answers(play, peer)),
            scores: by_author(roster, &statement.critiques, scores),
            ballots: by_author(roster, &statement.ballots, ballots),
        }
    }
}

fn by_author<T>(
    roster: &[PeerKey],
    included: &Bitmap,
    of: impl Fn(&PeerKey) -> Option<T>,
) -> BTreeMap<PeerKey, T> {
    members(roster, included).filter_map(|peer| Some((*peer, of(peer)?))).collect()
}

fn answers(play: &Play, peer: &PeerKey) -> Option<Answers> {
    let policy = play.items.said(peer)?.reveals.values().next()?.body.policy;
    let prompts = 0..play.schedule.len() as u16;
    let completions = prompts.map(|prompt| play.items.completions(peer, prompt).to_vec());
    Some(Answers { policy, completions: completions.collect() })
}
