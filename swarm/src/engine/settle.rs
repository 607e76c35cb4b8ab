//! From a statement to what the round came to: which messages it includes, what the judge sees of them,
//! and the hashes that peers sign.

use std::collections::BTreeMap;

use judge::{
    AuditVotes, CandidateId, Conduct, Offer, PackVote, PackVotes, PeerKey, PromptVotes, RoundVotes,
    Settlement,
};

use super::Engine;
use super::branch::Node;
use super::critics;
use super::event::Settled;
use super::play::Play;
use super::rounds::Round;
use crate::bitmap::Bitmap;
use crate::chain::Link;
use crate::manifest::Manifest;
use crate::message::{Statement, findings_seal, planted_seal};
use crate::wire::{self, Hash};

impl Engine {
    /// Settles the round that `node` started by the messages that a statement includes; `None` where the state
    /// before it is not known.
    pub(super) fn settle(&self, node: &Node, round: &Round, statement: &Statement) -> Option<Settlement> {
        let state = node.state.as_ref()?;
        let fresh = (!self.defences.reputation).then(|| judge::State::founded_by(&node.roster));
        let state = fresh.as_ref().unwrap_or(state);
        Some(settle(&self.manifest, state, &node.roster, &node.beacon, round, statement))
    }
}

/// Settles a round by the messages that a statement includes: `roster`, `beacon` and `state` are those that the round
/// began with.
pub(crate) fn settle(
    manifest: &Manifest,
    state: &judge::State,
    roster: &[PeerKey],
    beacon: &Hash,
    round: &Play,
    statement: &Statement,
) -> Settlement {
    let mut votes = round_votes(round, roster, statement, beacon.0);
    // The live part of a swarm that goes on without the rest decides nothing for the rest.
    let quorum = manifest.faults.quorum(roster.len());
    votes.packs.quorum = (!statement.degraded).then_some(u32::try_from(quorum).unwrap_or(u32::MAX));
    if !manifest.round.critiques.is_off() {
        critics::hear(round, roster, statement, beacon, &mut votes.prompts);
    }
    judge::settle(&manifest.judge, state, &votes)
}

/// Domain of the hash of a judge's state.
pub(crate) const STATE_DOMAIN: &str = "murmur v1 state";

/// Hashes of a settlement and of the judge's state after it.
pub(crate) fn settlement_hashes(settlement: &Settlement) -> (Hash, Hash) {
    let whole = Hash::of("murmur v1 settlement", &[&wire::encode(settlement)]);
    (whole, Hash::of(STATE_DOMAIN, &[&wire::encode(&settlement.next)]))
}

/// Members of `roster` at the positions of `set`.
pub(crate) fn members<'a>(roster: &'a [PeerKey], set: &'a Bitmap) -> impl Iterator<Item = &'a PeerKey> {
    set.iter().filter_map(|i| roster.get(i))
}

/// Hash over every included message, or `None` when one of them is not here.
pub(crate) fn items_hash(round: &Play, roster: &[PeerKey], statement: &Statement) -> Option<Hash> {
    item_ids(round, roster, statement).map(|ids| hash_of_items(&ids))
}

/// Hash over the ids of messages.
pub(crate) fn hash_of_items(ids: &[Hash]) -> Hash {
    let parts: Vec<&[u8]> = ids.iter().map(|id| &id.0[..]).collect();
    Hash::of("murmur v1 items", &parts)
}

/// The ids of all included messages, or `None` when one of them is not here.
pub(super) fn item_ids(round: &Play, roster: &[PeerKey], statement: &Statement) -> Option<Vec<Hash>> {
    let items = &round.items;
    let mut ids: Vec<Hash> = Vec::new();
    for peer in members(roster, &statement.commits) {
        ids.push(items.said(peer)?.commit.as_ref()?.id);
    }
    for peer in members(roster, &statement.answers) {
        if !items.answered(peer) {
            return None;
        }
        ids.extend(items.said(peer)?.reveals.values().map(|reveal| reveal.id));
    }
    for peer in members(roster, &statement.critiques) {
        ids.push(items.said(peer)?.critique.as_ref()?.id);
    }
    for peer in members(roster, &statement.ballots) {
        ids.push(items.said(peer)?.ballot.as_ref()?.id);
    }
    Some(ids)
}

/// What the judge sees: the included messages only.
fn round_votes(round: &Play, roster: &[PeerKey], statement: &Statement, gold_seed: [u8; 32]) -> RoundVotes {
    let prompts =
        (0..round.schedule.len()).map(|prompt| prompt_votes(round, roster, statement, prompt)).collect();
    let conduct = roster.iter().enumerate().map(|(i, &peer)| {
        let conduct = Conduct {
            committed: statement.commits.contains(i),
            revealed: statement.answers.contains(i),
            voted: statement.ballots.contains(i),
        };
        (peer, conduct)
    });
    let audits = audit_votes(round, roster, statement, &Hash(gold_seed));
    let packs = PackVotes { quorum: None, votes: pack_votes(round, roster, statement) };
    RoundVotes { roster: roster.to_vec(), prompts, gold_seed, conduct: conduct.collect(), audits, packs }
}

/// What the included ballots say of task packs.
fn pack_votes(round: &Play, roster: &[PeerKey], statement: &Statement) -> BTreeMap<PeerKey, Vec<PackVote>> {
    let said = members(roster, &statement.ballots).filter_map(|peer| {
        let ballot = round.items.said(peer)?.ballot.as_ref()?;
        Some((*peer, ballot.body.packs.clone())).filter(|(_, packs)| !packs.is_empty())
    });
    said.collect()
}

/// What the included messages say of audits.
fn audit_votes(round: &Play, roster: &[PeerKey], statement: &Statement, beacon: &Hash) -> AuditVotes {
    let said = |peer: &PeerKey| round.items.said(peer);
    let offers = members(roster, &statement.answers).filter_map(|peer| {
        let offer = said(peer)?.commit.as_ref()?.body.audit?;
        Some((*peer, Offer { seal: offer.seal.0 }))
    });
    let sealed: BTreeMap<&PeerKey, Hash> = members(roster, &statement.critiques)
        .filter_map(|peer| Some((peer, said(peer)?.critique.as_ref()?.body.audits?)))
        .collect();
    let mut audits = AuditVotes { offers: offers.collect(), ..AuditVotes::default() };
    for peer in members(roster, &statement.ballots) {
        let ballot = said(peer).and_then(|said| said.ballot.as_ref());
        let Some(opened) = ballot.and_then(|ballot| ballot.body.audits.as_ref()) else { continue };
        if sealed.get(peer) == Some(&findings_seal(beacon, peer, &opened.nonce, &opened.findings)) {
            let findings = opened.findings.iter().map(|found| (found.peer, found.finding));
            audits.findings.insert(*peer, findings.collect());
        }
        let seals = opened.planted.iter().map(|secret| planted_seal(peer, secret).0);
        audits.opened.insert(*peer, seals.collect());
    }
    audits
}

fn prompt_votes(round: &Play, roster: &[PeerKey], statement: &Statement, prompt: usize) -> PromptVotes {
    let items = &round.items;
    let completions =
        members(roster, &statement.answers).map(|peer| (*peer, round.candidates_of(peer, prompt)));
    let critiques = members(roster, &statement.critiques).filter_map(|peer| {
        let scores = items.said(peer)?.critique.as_ref()?.body.prompts.get(prompt)?;
        Some((*peer, scores.iter().map(|score| (score.candidate, score.millinats)).collect()))
    });
    let gold = round.schedule.get(prompt).and_then(|item| item.gold());
    PromptVotes {
        completions: completions.collect(),
        ballots: ballots(round, roster, statement, prompt),
        critiques: critiques.collect(),
        gold: gold.map(|gold| CandidateId::of(prompt as u16, gold.answer().as_str())),
        stage: round.stages.get(prompt).cloned().flatten(),
        ..PromptVotes::default()
    }
}

/// The included ballots on a prompt.
fn ballots(
    round: &Play,
    roster: &[PeerKey],
    statement: &Statement,
    prompt: usize,
) -> BTreeMap<PeerKey, BTreeMap<CandidateId, u16>> {
    let ballot = |peer: &PeerKey| {
        let shares = round.items.said(peer)?.ballot.as_ref()?.body.prompts.get(prompt)?;
        Some((*peer, shares.iter().map(|share| (share.candidate, share.permille)).collect()))
    };
    members(roster, &statement.ballots).filter_map(ballot).collect()
}

/// What a round came to, by its messages.
pub(crate) fn settled(round: &Play, roster: &[PeerKey], link: &Link, settlement: Settlement) -> Settled {
    let answered: Vec<PeerKey> = members(roster, &link.statement.answers).copied().collect();
    let candidates = round.schedule.iter().enumerate().map(|(prompt, item)| {
        let texts = answered.iter().flat_map(|peer| round.items.completions(peer, prompt as u16));
        let answers = texts.filter_map(|text| item.parse(text));
        answers.map(|answer| (CandidateId::of(prompt as u16, answer.as_str()), answer)).collect()
    });
    Settled {
        round: link.statement.round.saturating_sub(1),
        view: link.statement.view,
        statement: link.hash,
        start: link.statement.parent,
        candidates: candidates.collect(),
        ballots: (0..round.schedule.len())
            .map(|prompt| ballots(round, roster, &link.statement, prompt))
            .collect(),
        critiques: critics::written(round, roster, &link.statement),
        schedule: round.schedule.clone(),
        roster: roster.to_vec(),
        answered,
        settlement,
        durations_ms: BTreeMap::new(),
        voids: 0,
    }
}
