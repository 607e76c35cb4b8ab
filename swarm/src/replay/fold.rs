//! Rounds and certificates, folded from a log by the code that the engine settles with.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use judge::{PeerKey, Settlement};
use tasks::{Catalogue, PackId};

use super::credit::{Credit, contributions};
use super::names::{missing, refuted};
use super::transcript::Transcript;
use super::{Conviction, Finding, Skipped, StepInputs, unlike};
use crate::certificate::{CertificateError, beacon, read_statement, statement_hash};
use crate::chain::Link;
use crate::checkpoint::Checkpoint;
use crate::engine::{
    Play, STATE_DOMAIN, in_use, items_hash, sampling_seed, settle, settled, settlement_hashes,
};
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::manifest::{Manifest, ManifestError};
use crate::message::{Certificate, Statement};
use crate::topic::SwarmId;
use crate::wire::{self, Hash};

/// Certificates held with their rounds: a log may build on any of these again.
const HELD_MAX: usize = 8;

/// How a round ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The round.
    pub round: u32,
    /// View of the certificate that ended it.
    pub view: u32,
    /// Hash of that certificate's statement.
    pub statement: Hash,
    /// Hash of the settlement.
    pub settlement: Hash,
    /// Hash of the judge's state after it.
    pub state: Hash,
    /// The roster that played it.
    pub roster: Vec<PeerKey>,
}

/// What a fold came to.
pub(super) struct Folded {
    pub(super) rounds: Vec<Outcome>,
    pub(super) skipped: Vec<Skipped>,
    pub(super) credit: BTreeMap<PeerKey, Credit>,
    pub(super) convictions: Vec<Conviction>,
    pub(super) checkpoint: Option<Checkpoint>,
    /// Transcripts that were not handed out yet.
    pub(super) counted: Vec<Transcript>,
}

/// What is wanted besides what a fold comes to.
pub(super) enum Wanted {
    Outcome,
    /// The owner's inputs in these rounds.
    Inputs(RangeInclusive<u32>),
    Transcripts,
}

/// A certificate and the round it started.
pub(super) struct Held {
    /// The certificate's statement hash; the swarm id before the first.
    pub(super) hash: Hash,
    /// What it builds on: its parent, or across a gap what was held before.
    before: Hash,
    pub(super) link: Option<Link>,
    state: judge::State,
    roster: Vec<PeerKey>,
    beacon: Hash,
    /// Nothing before the first certificate.
    pub(super) play: Option<Play>,
    /// The round that the certificate ended, if it was settled here.
    ended: Option<Ended>,
}

/// How a round ended.
pub(super) struct Ended {
    outcome: Outcome,
    contributions: BTreeMap<PeerKey, Credit>,
    /// Where it is wanted.
    transcript: Option<Transcript>,
}

impl Held {
    /// Round that the certificate starts; 0 before the first.
    pub(super) fn round(&self) -> u32 {
        self.link.as_ref().map_or(0, |link| link.statement.round)
    }
}

/// The fold of one log.
pub(super) struct Fold {
    pub(super) manifest: Manifest,
    pub(super) swarm: SwarmId,
    listed: Vec<PeerKey>,
    catalogue: Catalogue,
    /// A pack that the swarm took in and that was not set aside here.
    pub(super) lacks: Option<PackId>,
    /// Oldest first; never empty.
    pub(super) held: VecDeque<Held>,
    /// The last of certificates that are followed without a state yet, or a checkpoint.
    pub(super) followed: Option<Link>,
    /// Peers against whom the log has a proof.
    proven: BTreeSet<PeerKey>,
    convictions: BTreeMap<PeerKey, Conviction>,
    /// Rounds whose certificates are held no more.
    outcomes: BTreeMap<u32, Outcome>,
    credit: BTreeMap<PeerKey, Credit>,
    skipped: Vec<Skipped>,
    owner: PeerKey,
    wanted: Wanted,
    pub(super) inputs: Vec<StepInputs>,
    /// Transcripts of rounds that no other branch replaces any more, until they are handed out.
    pub(super) counted: Vec<Transcript>,
}

impl Fold {
    pub(super) fn new(
        manifest: Manifest,
        catalogue: Catalogue,
        owner: PeerKey,
        wanted: Wanted,
    ) -> Result<Self, ManifestError> {
        let (swarm, listed) = (manifest.id(), manifest.genesis_peers()?);
        let genesis = Held {
            hash: Hash(swarm.0),
            before: Hash(swarm.0),
            link: None,
            state: judge::State::founded_by(&listed),
            roster: listed.clone(),
            beacon: beacon(&Hash(swarm.0)),
            play: None,
            ended: None,
        };
        let held = VecDeque::from([genesis]);
        let (outcomes, credit) = (BTreeMap::new(), BTreeMap::new());
        let (skipped, inputs) = (Vec::new(), Vec::new());
        Ok(Self {
            manifest,
            swarm,
            listed,
            catalogue,
            lacks: None,
            held,
            followed: None,
            proven: BTreeSet::new(),
            convictions: BTreeMap::new(),
            outcomes,
            credit,
            skipped,
            owner,
            wanted,
            inputs,
            counted: Vec::new(),
        })
    }

    /// Round in progress; 0 before the first.
    pub(super) fn round(&self) -> u32 {
        self.held.back().map_or(0, Held::round)
    }

    /// The last round that ended.
    pub(super) fn settled(&self) -> u32 {
        self.round().saturating_sub(1)
    }

    /// Messages and beacon of a round that is held.
    pub(super) fn play(&self, round: u32) -> Option<(&Play, &Hash)> {
        let held = self.held.iter().rev().find(|held| held.round() == round)?;
        Some((held.play.as_ref()?, &held.beacon))
    }

    pub(super) fn verify(&self, bytes: &[u8], parent: Option<&Link>) -> Result<Link, CertificateError> {
        Link::verify(bytes, &self.manifest, &self.swarm, parent, |_, _| false)
    }

    /// Checks a certificate, by the messages that it includes and then by its signatures.
    pub(super) fn certificate(&mut self, bytes: &[u8]) -> Result<(), Finding> {
        let wrong = |field: &str, why: String| Finding::new("certificate", field, why);
        let decoded: Certificate =
            wire::decode(bytes, ENVELOPE_BYTES_MAX).map_err(|why| wrong("bytes", why.to_string()))?;
        if self.held(&statement_hash(&decoded.statement)).is_some() {
            return Ok(()); // taken again after a start that had forgotten it
        }
        let loose: Statement = wire::decode(&decoded.statement, ENVELOPE_BYTES_MAX)
            .map_err(|why| wrong("statement", why.to_string()))?;
        let Some(parent) = self.held(&loose.parent) else {
            return Err(wrong("parent", "is a certificate that the log does not hold".into()));
        };
        let ending = parent.link.as_ref().map_or(0, |link| link.statement.roster.len());
        let statement =
            read_statement(&decoded.statement, ending).map_err(|why| wrong("statement", why.to_string()))?;
        let (state, ended, settlement) = match &parent.play {
            Some(play) => {
                let settlement = self.settle(parent, play, &statement)?;
                let ended = ended(parent, play, &decoded, &statement, &settlement);
                (settlement.next.clone(), Some(ended), Some(settlement))
            }
            None => (self.founding(&statement)?, None, None),
        };
        let link = self.verify(bytes, parent.link.as_ref()).map_err(|error| {
            let (field, why) = refuted(Some(&statement), &error);
            wrong(field, why)
        })?;
        self.convict(&link)?;
        let transcript = settlement.as_ref().and_then(|settlement| self.transcript(&link, settlement));
        let ended = ended.map(|ended| Ended { transcript, ..ended });
        let inputs = settlement.and_then(|settlement| self.inputs(&link, settlement));
        self.inputs.extend(inputs);
        self.push(link, state, ended);
        Ok(())
    }

    /// What the owner learns from the round that a certificate ends, if somebody wants to know.
    fn inputs(&self, link: &Link, settlement: Settlement) -> Option<StepInputs> {
        let Wanted::Inputs(rounds) = &self.wanted else { return None };
        let parent = self.held(&link.statement.parent)?;
        let play = parent.play.as_ref().filter(|_| rounds.contains(&parent.round()))?;
        let prompts = 0..play.schedule.len();
        let completions = prompts.map(|prompt| play.items.completions(&self.owner, prompt as u16).to_vec());
        Some(StepInputs {
            seed: sampling_seed(&parent.beacon, &self.owner),
            completions: completions.collect(),
            settled: settled(play, &parent.roster, link, settlement),
        })
    }

    /// The round that a certificate ends, in the words of its peers, if somebody wants to know.
    fn transcript(&self, link: &Link, settlement: &Settlement) -> Option<Transcript> {
        let Wanted::Transcripts = &self.wanted else { return None };
        let parent = self.held(&link.statement.parent)?;
        Some(Transcript::of(parent.play.as_ref()?, &parent.roster, link, settlement.clone()))
    }

    /// Settles a round again; every hash must be the one stated.
    fn settle(&self, parent: &Held, play: &Play, statement: &Statement) -> Result<Settlement, Finding> {
        let wrong = |field: &str, why: String| {
            Finding::new("certificate", field, why).in_round(statement.round.saturating_sub(1))
        };
        let Some(items) = items_hash(play, &parent.roster, statement) else {
            return Err(missing(play, &parent.roster, statement).in_round(parent.round()));
        };
        if items != statement.items {
            return Err(wrong("items", unlike(&items, &statement.items)));
        }
        let settlement =
            settle(&self.manifest, &parent.state, &parent.roster, &parent.beacon, play, statement);
        let (whole, next) = settlement_hashes(&settlement);
        if whole != statement.settlement {
            return Err(wrong("settlement", unlike(&whole, &statement.settlement)));
        }
        if next != statement.state {
            return Err(wrong("state", unlike(&next, &statement.state)));
        }
        Ok(settlement)
    }

    /// The state before the first round.
    fn founding(&self, statement: &Statement) -> Result<judge::State, Finding> {
        let founders = if self.listed.is_empty() { &statement.roster } else { &self.listed };
        let state = judge::State::founded_by(founders);
        let hash = Hash::of(STATE_DOMAIN, &[&wire::encode(&state)]);
        if hash != statement.state {
            return Err(Finding::new("certificate", "state", unlike(&hash, &statement.state)));
        }
        Ok(state)
    }

    pub(super) fn held(&self, hash: &Hash) -> Option<&Held> {
        self.held.iter().rev().find(|held| held.hash == *hash)
    }

    pub(super) fn own(&mut self, peer: PeerKey) -> &mut Credit {
        self.credit.entry(peer).or_default()
    }

    /// Notes that the rounds from the one in progress up to that before `round` are not settled again.
    pub(super) fn skip(&mut self, round: u32, linked: bool) {
        let (from, to) = (self.round().max(1), round.saturating_sub(1));
        if from <= to {
            self.skipped.push(Skipped { from, to, linked });
        }
    }

    pub(super) fn push(&mut self, link: Link, state: judge::State, ended: Option<Ended>) {
        let Statement { round, roster, parent, .. } = link.statement.clone();
        let newest = self.held.back().map_or(parent, |newest| newest.hash);
        let before = if self.held(&parent).is_some() { parent } else { newest };
        let (hash, beacon) = (link.hash, beacon(&link.hash));
        let drawn = self.catalogue.with(&in_use(&state.packs, Some(&link)));
        let (catalogue, missing) =
            drawn.map_or_else(|id| (Cow::Borrowed(&self.catalogue), Some(id)), |catalogue| (catalogue, None));
        let play =
            Play::open(self.swarm, &self.manifest, &catalogue, round, &roster, &beacon, &state.courses);
        drop(catalogue);
        self.lacks = self.lacks.or(missing);
        let held = Held { hash, before, link: Some(link), state, roster, beacon, play: Some(play), ended };
        self.held.push_back(held);
        if self.held.len() > HELD_MAX {
            let on_branch = self.branch();
            if let Some(oldest) = self.held.pop_front().filter(|oldest| on_branch.contains(&oldest.hash)) {
                self.count(oldest);
            }
        }
    }

    /// Hashes of the held certificates that the newest one builds on, itself included.
    fn branch(&self) -> Vec<Hash> {
        let mut branch = Vec::with_capacity(self.held.len());
        let mut wanted = self.held.back().map(|held| held.hash);
        for held in self.held.iter().rev() {
            if Some(held.hash) == wanted {
                branch.push(held.hash);
                wanted = Some(held.before);
            }
        }
        branch
    }

    /// The log has a proof that a peer said two things.
    pub(super) fn proven(&mut self, peer: PeerKey) {
        if self.proven.insert(peer) {
            self.own(peer).equivocations += 1;
        }
    }

    /// Notes whom a certificate convicts that was not convicted before. The owner signs that with a proof in its log
    /// only; of convictions that it did not sign, a quorum's word is all that there may be.
    pub(super) fn convict(&mut self, link: &Link) -> Result<(), Finding> {
        let round = link.statement.round.saturating_sub(1);
        let new = |peer: &&PeerKey| !self.convictions.contains_key(peer);
        let new: Vec<PeerKey> = link.statement.offenders.iter().filter(new).copied().collect();
        let whole = self.skipped.iter().all(|skipped| skipped.linked);
        for peer in new {
            let proven = self.proven.contains(&peer);
            if !proven && whole && link.is_signed_by(&self.swarm, &self.owner) {
                let why =
                    format!("convicts {}, by the owner's signature, and the log has no proof", peer.name());
                return Err(Finding::new("certificate", "offenders", why).in_round(round));
            }
            self.convictions.insert(peer, Conviction { peer, round, proven });
        }
        Ok(())
    }

    /// Takes a round that no other branch replaces any more into the account.
    fn count(&mut self, held: Held) {
        let Some(Ended { outcome, contributions, transcript }) = held.ended else { return };
        self.counted.extend(transcript);
        for (peer, credit) in contributions {
            self.own(peer).add(&credit);
        }
        self.outcomes.insert(outcome.round, outcome);
    }

    /// Everything that was folded.
    pub(super) fn finish(mut self) -> Folded {
        let branch = self.branch();
        let place = self.held.back().and_then(|held| held.link.as_ref()).map(|link| &link.place);
        let checkpoint = place
            .filter(|place| place.final_view > 0)
            .map(|place| Checkpoint { view: place.final_view, statement: place.final_hash });
        let newest = self.held.back().map(|held| held.state.clone()).unwrap_or_default();
        let roster = self.held.back().map(|held| held.roster.clone()).unwrap_or_default();
        for held in std::mem::take(&mut self.held) {
            if branch.contains(&held.hash) {
                self.count(held);
            }
        }
        let weights = judge::weights(&self.manifest.judge, &newest, &roster);
        for peer in newest.reputations.keys() {
            self.own(*peer);
        }
        for (peer, credit) in &mut self.credit {
            let reputation = newest.reputations.get(peer);
            credit.weight_micro = weights.get(peer).copied().unwrap_or(0);
            credit.accuracy_micro = reputation.map(judge::Reputation::accuracy_micro);
            credit.gold_ballots = reputation.map_or(0, |reputation| reputation.gold_ballots);
        }
        Folded {
            rounds: self.outcomes.into_values().collect(),
            skipped: self.skipped,
            credit: self.credit,
            convictions: self.convictions.into_values().collect(),
            checkpoint,
            counted: self.counted,
        }
    }
}

/// How the round that a parent started ended.
fn ended(
    parent: &Held,
    play: &Play,
    certificate: &Certificate,
    statement: &Statement,
    settlement: &Settlement,
) -> Ended {
    let outcome = Outcome {
        round: parent.round(),
        view: statement.view,
        statement: statement_hash(&certificate.statement),
        settlement: statement.settlement,
        state: statement.state,
        roster: parent.roster.clone(),
    };
    let contributions = contributions(play, &parent.roster, statement, settlement);
    Ended { outcome, contributions, transcript: None }
}
