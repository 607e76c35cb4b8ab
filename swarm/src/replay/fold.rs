//! Rounds and certificates, folded from a log by the code that the engine settles with.

use std::collections::{BTreeMap, VecDeque};

use judge::{PeerKey, Settlement};
use serde_bytes::ByteBuf;
use tasks::Catalogue;

use super::credit::{Credit, contributions};
use super::{Finding, Skipped, unlike};
use crate::admission::{self, Admitted, Body};
use crate::certificate::{CertificateError, beacon, read_statement, statement_hash};
use crate::chain::{Link, Place};
use crate::engine::{Placed, Play, STATE_DOMAIN, items_hash, members, settle, settlement_hashes};
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::log::RECORD_BYTES_MAX;
use crate::manifest::{Manifest, ManifestError};
use crate::message::{Certificate, Envelope, Kind, Payload, Statement};
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

/// A certificate and the round it started.
struct Held {
    /// The certificate's statement hash; the swarm id before the first.
    hash: Hash,
    /// What it builds on: its parent, or across a gap what was held before.
    before: Hash,
    link: Option<Link>,
    state: judge::State,
    roster: Vec<PeerKey>,
    beacon: Hash,
    /// Nothing before the first certificate.
    play: Option<Play>,
    /// The round that the certificate ended, if it was settled here.
    ended: Option<(Outcome, BTreeMap<PeerKey, Credit>)>,
}

impl Held {
    /// Round that the certificate starts; 0 before the first.
    fn round(&self) -> u32 {
        self.link.as_ref().map_or(0, |link| link.statement.round)
    }
}

/// The fold of one log.
pub(super) struct Fold {
    manifest: Manifest,
    swarm: SwarmId,
    listed: Vec<PeerKey>,
    catalogue: Catalogue,
    /// Oldest first; never empty.
    held: VecDeque<Held>,
    /// Rounds whose certificates are held no more.
    outcomes: BTreeMap<u32, Outcome>,
    credit: BTreeMap<PeerKey, Credit>,
    skipped: Vec<Skipped>,
}

impl Fold {
    pub(super) fn new(manifest: Manifest, catalogue: Catalogue) -> Result<Self, ManifestError> {
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
        Ok(Self { manifest, swarm, listed, catalogue, held, outcomes, credit, skipped: Vec::new() })
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

    /// A start: the peer goes on from what it had stored.
    pub(super) fn open(
        &mut self,
        certificates: &[ByteBuf],
        place: &[u8],
        state: &[u8],
    ) -> Result<(), Finding> {
        let Some((first, later)) = certificates.split_first() else { return Ok(()) };
        let wrong = |field: &'static str, why: String| Finding::new("start", field, why);
        let place: Place =
            wire::decode(place, ENVELOPE_BYTES_MAX).map_err(|why| wrong("place", why.to_string()))?;
        let refused = |why: CertificateError| wrong("certificates", why.to_string());
        let mut newest = Link::trusted(first, place).map_err(refused)?;
        for bytes in later {
            newest = self.verify(bytes, Some(&newest)).map_err(refused)?;
        }
        let state = self.state("start", state, &newest.statement)?;
        if let Some(known) = self.held(&newest.hash) {
            let same = known.link.as_ref().is_some_and(|known| *known == newest);
            let why = || wrong("certificates", "are not those logged before".into());
            return same.then_some(()).ok_or_else(why);
        }
        // Stored by a start that this log does not hold: there is nothing to check it against.
        self.skip(newest.statement.round, false);
        self.push(newest, state, None);
        Ok(())
    }

    fn verify(&self, bytes: &[u8], parent: Option<&Link>) -> Result<Link, CertificateError> {
        Link::verify(bytes, &self.manifest, &self.swarm, parent, |_, _| false)
    }

    /// Checks a message and puts it in its slot.
    pub(super) fn message(&mut self, late: bool, envelope: &[u8]) -> Result<Admitted, Finding> {
        let (what, sender, round) = said(envelope);
        let about = |field: &'static str, why: &str| {
            let finding = Finding::new(what, field, why);
            match sender {
                Some(sender) => finding.of(sender).in_round(round),
                None => finding,
            }
        };
        let authentic = admission::authenticate(&self.swarm, None, envelope).map_err(|refusal| {
            let (field, why) = refused(refusal.reason());
            about(field, why)
        })?;
        let message =
            admission::admit(&self.manifest, authentic).map_err(|refusal| about("body", refusal.reason()))?;
        let mut placed = None;
        for held in self.held.iter_mut().filter(|held| held.hash == message.start) {
            let now = held.play.as_mut().and_then(|play| play.items.place(message.clone()));
            placed = placed.or(now);
        }
        match placed {
            None => return Err(about("round", "no round in progress has its author in the roster")),
            Some(Placed::Conflict) => self.own(message.sender).equivocations += 1,
            Some(Placed::New) => self.own(message.sender).late += u32::from(late),
            Some(Placed::Duplicate | Placed::Uncommitted) => {}
        }
        Ok(message)
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
        let (state, ended) = match &parent.play {
            Some(play) => {
                let settlement = self.settle(parent, play, &statement)?;
                let next = settlement.next.clone();
                (next, Some(ended(parent, play, &decoded, &statement, &settlement)))
            }
            None => (self.founding(&statement)?, None),
        };
        let link = self.verify(bytes, parent.link.as_ref()).map_err(|error| {
            let (field, why) = refuted(Some(&statement), &error);
            wrong(field, why)
        })?;
        self.push(link, state, ended);
        Ok(())
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

    /// Certificates that were followed without the messages of their rounds.
    pub(super) fn gap(&mut self, certificates: &[ByteBuf], state: &[u8]) -> Result<(), Finding> {
        let wrong = |field: &str, why: String| Finding::new("gap", field, why);
        let mut newest: Option<Link> = None;
        for bytes in certificates {
            let certificate: Certificate = wire::decode(bytes, ENVELOPE_BYTES_MAX)
                .map_err(|why| wrong("certificates", why.to_string()))?;
            let known = self.held(&statement_hash(&certificate.statement));
            if let Some(known) = known.and_then(|held| held.link.clone()) {
                newest = Some(known);
                continue;
            }
            let parent = match &newest {
                Some(newest) => Some(newest.clone()),
                None => self.parent_of(&certificate),
            };
            let link = self.verify(bytes, parent.as_ref()).map_err(|error| {
                let statement: Option<Statement> =
                    wire::decode(&certificate.statement, ENVELOPE_BYTES_MAX).ok();
                let (field, why) = refuted(statement.as_ref(), &error);
                let ended = parent.as_ref().map_or(0, |parent| parent.statement.round);
                wrong(field, format!("of a certificate that was followed: {why}")).in_round(ended)
            })?;
            newest = Some(link);
        }
        let Some(newest) = newest else { return Err(wrong("certificates", "there are none".into())) };
        let state = self.state("gap", state, &newest.statement)?;
        if self.held(&newest.hash).is_none() {
            self.skip(newest.statement.round, true);
            self.push(newest, state, None);
        }
        Ok(())
    }

    /// The held certificate that another one names as its parent.
    fn parent_of(&self, certificate: &Certificate) -> Option<Link> {
        let statement: Statement = wire::decode(&certificate.statement, ENVELOPE_BYTES_MAX).ok()?;
        self.held(&statement.parent)?.link.clone()
    }

    /// A state that must be the one a statement names.
    fn state(
        &self,
        what: &'static str,
        bytes: &[u8],
        statement: &Statement,
    ) -> Result<judge::State, Finding> {
        let hash = Hash::of(STATE_DOMAIN, &[bytes]);
        if hash != statement.state {
            return Err(Finding::new(what, "state", "is not the one that its certificate names"));
        }
        wire::decode(bytes, RECORD_BYTES_MAX).map_err(|why| Finding::new(what, "state", why.to_string()))
    }

    fn held(&self, hash: &Hash) -> Option<&Held> {
        self.held.iter().rev().find(|held| held.hash == *hash)
    }

    fn own(&mut self, peer: PeerKey) -> &mut Credit {
        self.credit.entry(peer).or_default()
    }

    /// Notes that the rounds from the one in progress up to that before `round` are not settled again.
    fn skip(&mut self, round: u32, linked: bool) {
        let (from, to) = (self.round().max(1), round.saturating_sub(1));
        if from <= to {
            self.skipped.push(Skipped { from, to, linked });
        }
    }

    fn push(&mut self, link: Link, state: judge::State, ended: Option<(Outcome, BTreeMap<PeerKey, Credit>)>) {
        let Statement { round, roster, parent, .. } = link.statement.clone();
        let newest = self.held.back().map_or(parent, |newest| newest.hash);
        let before = if self.held(&parent).is_some() { parent } else { newest };
        let (hash, beacon) = (link.hash, beacon(&link.hash));
        let play = Play::open(self.swarm, &self.manifest, &self.catalogue, round, &roster, &beacon);
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

    /// Takes a round that no other branch replaces any more into the account.
    fn count(&mut self, held: Held) {
        let Some((outcome, contributions)) = held.ended else { return };
        for (peer, credit) in contributions {
            self.own(peer).add(&credit);
        }
        self.outcomes.insert(outcome.round, outcome);
    }

    /// Everything that was folded.
    pub(super) fn finish(mut self) -> (Vec<Outcome>, Vec<Skipped>, BTreeMap<PeerKey, Credit>) {
        let branch = self.branch();
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
        (self.outcomes.into_values().collect(), self.skipped, self.credit)
    }
}

/// How the round that a parent started ended.
fn ended(
    parent: &Held,
    play: &Play,
    certificate: &Certificate,
    statement: &Statement,
    settlement: &Settlement,
) -> (Outcome, BTreeMap<PeerKey, Credit>) {
    let outcome = Outcome {
        round: parent.round(),
        view: statement.view,
        statement: statement_hash(&certificate.statement),
        settlement: statement.settlement,
        state: statement.state,
        roster: parent.roster.clone(),
    };
    (outcome, contributions(play, &parent.roster, statement, settlement))
}

/// The first message that a statement includes and the log does not hold.
fn missing(play: &Play, roster: &[PeerKey], statement: &Statement) -> Finding {
    let items = &play.items;
    let lacks = |set, has: &dyn Fn(&PeerKey) -> bool| members(roster, set).find(|peer| !has(peer)).copied();
    let first = None
        .or_else(|| lacks(&statement.commits, &|peer| items.committed(peer)).map(|peer| ("commit", peer)))
        .or_else(|| lacks(&statement.answers, &|peer| items.answered(peer)).map(|peer| ("reveal", peer)))
        .or_else(|| lacks(&statement.critiques, &|peer| items.critiqued(peer)).map(|peer| ("critique", peer)))
        .or_else(|| lacks(&statement.ballots, &|peer| items.voted(peer)).map(|peer| ("ballot", peer)));
    let why = "is included by the certificate, but not in the log";
    match first {
        Some((what, peer)) => Finding::new(what, "message", why).of(peer),
        None => Finding::new("certificate", "items", why),
    }
}

/// Kind, author and round of an envelope, for naming it even where it does not verify.
pub(super) fn said(envelope: &[u8]) -> (&'static str, Option<PeerKey>, u32) {
    let envelope: Option<Envelope> = wire::decode(envelope, ENVELOPE_BYTES_MAX).ok();
    let payload = envelope.and_then(|e| wire::decode::<Payload>(&e.payload, ENVELOPE_BYTES_MAX).ok());
    let Some(payload) = payload else { return ("message", None, 0) };
    let what = match payload.kind {
        Kind::Commit => "commit",
        Kind::Reveal => "reveal",
        Kind::Critique => "critique",
        Kind::Ballot => "ballot",
        Kind::Presence | Kind::Proposal | Kind::Signature | Kind::Certificate | Kind::Proof => "message",
    };
    (what, Some(payload.sender), payload.round)
}

/// Which field of an envelope a refusal is about, and what it means in a log.
fn refused(reason: &'static str) -> (&'static str, &'static str) {
    match reason {
        "another protocol version" => ("version", reason),
        "of another swarm" => ("swarm", reason),
        "signature does not match its author" => {
            ("signature", "is not the author's over kind, round, sender, sequence and body as they stand")
        }
        _ => ("envelope", reason),
    }
}

/// Which field of a certificate does not hold, and why.
fn refuted(statement: Option<&Statement>, error: &CertificateError) -> (&'static str, String) {
    match (error, statement) {
        (CertificateError::TooFew { .. }, Some(Statement { view, round, roster, .. })) => {
            let stated = format!("round {round}, view {view} and a roster of {}", roster.len());
            ("signatures", format!("{error} over what it states ({stated}, and the rest)"))
        }
        (CertificateError::Parent { .. }, _) => ("parent", error.to_string()),
        (CertificateError::Shape(why), _) if why.starts_with("view or round") => {
            ("view or round", "does not follow the parent's".into())
        }
        _ => ("statement", error.to_string()),
    }
}

/// What a message is called.
pub(super) fn name(body: &Body) -> &'static str {
    match body {
        Body::Commit(_) => "commit",
        Body::Reveal(_) => "reveal",
        Body::Critique(_) => "critique",
        Body::Ballot(_) => "ballot",
        Body::Presence(_)
        | Body::Proposal(_)
        | Body::Signature(_)
        | Body::Certificate(_)
        | Body::Proof(..) => "message",
    }
}
