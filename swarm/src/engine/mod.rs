//! The round engine: no IO, no clock, no threads.
//!
//! The caller owns time, network, disk and model. It feeds [`Engine::receive`] (gossip),
//! [`Engine::serve`] (repair requests) and [`Engine::handle`] (everything else), performs what
//! [`Engine::poll`] returns *in order*, and calls [`Engine::handle`] with [`Input::Tick`] no later than
//! [`Engine::deadline`]. The same engine runs live, under a virtual clock in tests, and wherever
//! else a round has to be played again.
//!
//! Reading order: `interface` and `event` (what goes in and comes out), `rounds` (the phases), `views` (whose
//! turn it is), `agree` (proposals, signatures), `lacking` (whose are missing), `certify` (certificates),
//! `branch` (which certificate to build on), `offences` (who is left out), `settle` (what the judge sees),
//! `critics` (text critiques), `audits` (answers computed again), `library` (packs besides the manifest's),
//! `policies` (what certifies a policy), `repair` (catching up), `recalled` and `quiet` (starting again),
//! `items` (the slots of a round), `bodies`
//! (completions too long for a message), `play` (a round without this peer's part in it).

mod agree;
mod audits;
mod bodies;
mod branch;
mod certify;
mod critics;
mod deadline;
mod event;
mod interface;
mod items;
mod lacking;
mod library;
mod offences;
mod play;
mod policies;
mod presence;
mod quiet;
mod recalled;
mod repair;
mod rounds;
mod settle;
mod shares;
mod sizes;
mod spread;
#[cfg(test)]
pub(crate) mod tests;
mod views;

use std::collections::{BTreeMap, VecDeque};

use judge::{PackKey, PackVote, PeerKey};
use serde::Serialize;
use tasks::Catalogue;

pub use crate::defences::Defences;
pub use event::{Event, PhaseName, Settled, Status};
pub use interface::{
    AuditCase, Input, Output, Persist, Resume, Setup, ShownAnswers, StoredHead, Verdict, Work,
};
pub(crate) use items::Placed;
pub(crate) use library::in_use;
pub(crate) use play::Play;
pub use recalled::StartError;
pub(crate) use rounds::sampling_seed;
pub(crate) use settle::{
    STATE_DOMAIN, hash_of_items, items_hash, members, settle, settled, settlement_hashes,
};
pub use sizes::Size;

use crate::admission::{self, Admitted, Body, Refusal};
use crate::certificate::beacon;
use crate::checkpoint::Checkpoint;
use crate::identity::Identity;
use crate::limits::{
    EARLY_BYTES_MAX, EARLY_MESSAGES_MAX, EARLY_ROUNDS_MAX, OUTPUTS_MAX, PROTOCOL, REPAIR_EVERY_MS,
};
use crate::log::Record;
use crate::manifest::Manifest;
use crate::membership::Ticket;
use crate::message::{ENVELOPE_DOMAIN, Envelope, Kind, Payload, Presence};
use crate::proof::{Evidence, Proof};
use crate::topic::{SwarmId, Topic};
use crate::wire::{self, Hash, Sig};

use agree::Agreement;
use audits::Audits;
use branch::{Branches, Node};
use offences::Offences;
use presence::{Change, Table};
use quiet::Quiet;
use rounds::Round;
use shares::Shares;

/// Kinds of message that fill one slot a round: commit, critique, ballot.
const SINGLE_SLOTS: usize = 3;

/// One peer's view of the swarm. See the module's header for how to drive it.
pub struct Engine {
    identity: Identity,
    me: PeerKey,
    manifest: Manifest,
    swarm: SwarmId,
    listed: Vec<PeerKey>,
    /// Keys that may join without a ticket, where not everybody may.
    welcome: Vec<PeerKey>,
    catalogue: Catalogue,
    /// What this peer says of packs under vote, and proposes.
    pack_votes: BTreeMap<PackKey, PackVote>,
    ready: bool,
    leaving: Option<String>,
    addresses: Vec<String>,
    ticket: Option<Ticket>,
    entropy: [u8; 32],
    numerics: String,
    incarnation: u32,
    defences: Defences,
    /// Whether nothing was stored, so that this peer cannot know what its key has signed.
    forgetful: bool,
    quiet: Option<Quiet>,
    /// What to verify from, until there is a head.
    checkpoint: Option<Checkpoint>,
    sequence: u32,
    branches: Branches,
    round: Option<Round>,
    /// The round before, for peers one certificate behind and for another branch that ends it too.
    previous: Option<Round>,
    presence: Table,
    agreement: Agreement,
    audits: Audits,
    offences: Offences,
    shares: Shares,
    early: Vec<Admitted>,
    durations: BTreeMap<PhaseName, deadline::Durations>,
    dropped: BTreeMap<&'static str, u64>,
    outputs: VecDeque<Output>,
    next_heartbeat_ms: u64,
    next_repair_ms: u64,
    repair_turn: usize,
}

impl Engine {
    /// An engine at `now` (milliseconds of the caller's monotonic clock).
    ///
    /// # Errors
    /// A manifest that cannot work, or a stored head that cannot be read.
    pub fn new(setup: Setup, now: u64) -> Result<Self, StartError> {
        setup.manifest.validate()?;
        let swarm = setup.manifest.id();
        let listed = setup.manifest.genesis_peers()?;
        let forgetful = setup.resume.signed_view == 0 && setup.resume.head == StoredHead::default();
        let mut welcome = [listed.clone(), setup.manifest.membership.listed()?].concat();
        welcome.sort();
        let me = setup.identity.public();
        let state = judge::State::founded_by(&listed);
        let genesis =
            Node { link: None, state: Some(state), roster: listed.clone(), beacon: beacon(&Hash(swarm.0)) };
        let mut engine = Self {
            agreement: Agreement::new(setup.resume.signed_view, now, &setup.manifest),
            identity: setup.identity,
            me,
            manifest: setup.manifest,
            swarm,
            listed,
            welcome,
            catalogue: setup.catalogue,
            pack_votes: BTreeMap::new(),
            ready: setup.ready,
            leaving: None,
            addresses: setup.addresses,
            ticket: setup.ticket,
            entropy: setup.entropy,
            numerics: setup.numerics,
            incarnation: setup.resume.incarnation.saturating_add(1),
            defences: setup.defences,
            forgetful,
            quiet: None,
            checkpoint: None,
            sequence: 0,
            branches: Branches::new(Hash(swarm.0), genesis),
            round: None,
            previous: None,
            presence: Table::default(),
            audits: Audits::default(),
            offences: Offences::default(),
            shares: Shares::default(),
            early: Vec::new(),
            durations: BTreeMap::new(),
            dropped: BTreeMap::new(),
            outputs: VecDeque::new(),
            next_heartbeat_ms: now,
            next_repair_ms: now,
            repair_turn: 0,
        };
        let StoredHead { path, place, state } = setup.resume.head.clone();
        let incarnation = engine.incarnation;
        engine.output(Output::Log(Record::Opened { incarnation, certificates: path, place, state }));
        engine.resume(now, &setup.resume)?;
        engine.tick(now);
        Ok(engine)
    }

    /// This peer.
    pub fn me(&self) -> PeerKey {
        self.me
    }

    /// How often this peer has started, this time included; to be stored in [`Resume`].
    pub fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// Identity of the swarm.
    pub fn swarm(&self) -> SwarmId {
        self.swarm
    }

    /// Verifies from a checkpoint, and takes part in nothing before it has followed the certificates from there. For
    /// a peer that has a head, it changes nothing.
    pub fn trust(&mut self, checkpoint: Checkpoint) {
        if self.head().link.is_none() {
            self.checkpoint = Some(checkpoint);
        }
    }

    /// Everything dropped so far, by reason.
    pub fn dropped(&self) -> &BTreeMap<&'static str, u64> {
        &self.dropped
    }

    /// The next thing for the caller to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Tick`] is due at the latest, in milliseconds of the caller's clock.
    pub fn deadline(&self) -> u64 {
        let phase = self.round.as_ref().map_or(u64::MAX, Round::deadline);
        self.next_heartbeat_ms.min(phase).min(self.agreement.until_ms)
    }

    /// Takes a gossiped message and says whether to forward it.
    pub fn receive(&mut self, now: u64, topic: Topic, bytes: &[u8]) -> Verdict {
        let admitted = admission::authenticate_under(self.defences, &self.swarm, Some(topic), bytes)
            .and_then(|message| admission::admit_under(self.defences, &self.manifest, message));
        let outcome = match admitted {
            Ok(message) => self.accept(now, message),
            Err(refusal) => Err(refusal),
        };
        self.advance(now);
        match outcome {
            Ok(()) => Verdict::Accept,
            Err(refusal) => {
                self.count_refusal(refusal, None);
                if matches!(refusal, Refusal::Reject(_)) { Verdict::Reject } else { Verdict::Ignore }
            }
        }
    }

    /// Takes any other input.
    pub fn handle(&mut self, now: u64, input: Input) {
        match input {
            Input::Tick => {}
            Input::Answers { round, completions, policy } => self.take_answers(round, completions, policy),
            Input::Critiques { round, scores, texts } => self.take_critiques(round, &scores, texts),
            Input::Repair { from, bytes } => self.take_repair(now, from, &bytes),
            Input::Weights { round, bytes, planted } => self.take_weights(round, bytes, planted),
            Input::Audited { round, peer, finding } => self.take_finding(round, &peer, finding),
            Input::Fetched { blob, bytes } => {
                if let Some(bytes) = self.take_audited(now, blob, bytes) {
                    self.take_body(now, blob, bytes);
                }
            }
            Input::FetchFailed { blob } => {
                if !self.miss_weights(now, &blob) {
                    self.miss_body(now, &blob);
                }
            }
            Input::Pack(pack) => self.catalogue.set_aside(*pack),
            Input::PackVote(vote) => self.take_pack_vote(vote),
            Input::PackGone(id) => self.drop_pack(&id),
            Input::Recalled(recall) => self.take_recall(*recall),
            Input::Addresses(addresses) => {
                if addresses != self.addresses {
                    self.addresses = addresses;
                    self.next_heartbeat_ms = self.next_heartbeat_ms.min(now + REPAIR_EVERY_MS);
                }
            }
            Input::Leave { reason } => self.leave(reason),
        }
        self.tick(now);
    }

    fn tick(&mut self, now: u64) {
        if now >= self.next_heartbeat_ms {
            self.presence.pace(self.branches.head().roster.len());
            self.next_heartbeat_ms = now + self.presence.beat_ms();
            self.mind_quiet(now);
            self.publish_presence();
            self.ask_for_what_is_missing(now);
        }
        self.advance(now);
    }

    fn leave(&mut self, mut reason: String) {
        reason.truncate(reason.floor_char_boundary(crate::limits::TEXT_BYTES_MAX));
        self.leaving = Some(reason);
        self.publish_presence();
    }

    fn publish_presence(&mut self) {
        let (view, statement) = self.newest();
        let presence = Presence {
            incarnation: self.incarnation,
            view,
            statement,
            attempt: self.wanted_view(),
            ready: self.takes_part() && self.leaving.is_none(),
            leaving: self.leaving.clone(),
            addresses: self.addresses.clone(),
            ticket: self.ticket.clone(),
        };
        self.publish(Kind::Presence, &presence);
    }

    /// The newest certificate of the preferred branch and what follows from it.
    fn head(&self) -> &Node {
        self.branches.head()
    }

    /// View and hash of the newest certificate; 0 and the swarm id before the first.
    fn newest(&self) -> (u32, Hash) {
        let newest = self.head().link.as_ref();
        newest.map_or((0, Hash(self.swarm.0)), |link| (link.statement.view, link.hash))
    }

    /// Round in progress; 0 before the first.
    fn round_number(&self) -> u32 {
        self.head().link.as_ref().map_or(0, |link| link.statement.round)
    }

    /// View of the newest certificate known to be final; 0 for the genesis.
    pub fn final_view(&self) -> u32 {
        self.head().link.as_ref().map_or(0, |link| link.place.final_view)
    }

    /// Signs and publishes a message of this peer's own.
    fn publish<T: Serialize>(&mut self, kind: Kind, body: &T) {
        if let Some(message) = self.signed(kind, body) {
            self.output(Output::Publish(kind.topic(), message.bytes));
        }
    }

    /// As [`Self::publish`], for a message that fills a slot of the round; it is in the log before it is sent.
    fn publish_item<T: Serialize>(&mut self, kind: Kind, body: &T) {
        if let Some(message) = self.signed(kind, body) {
            let bytes = message.bytes.clone();
            let placed = self.place(message);
            debug_assert_eq!(placed, Some(Placed::New), "own messages fill own, empty slots");
            self.output(Output::Publish(kind.topic(), bytes));
        }
    }

    /// A message of this peer's own as others will receive it.
    fn signed<T: Serialize>(&mut self, kind: Kind, body: &T) -> Option<Admitted> {
        self.sequence = self.sequence.saturating_add(1);
        let payload = wire::encode(&Payload {
            version: PROTOCOL,
            swarm: Hash(self.swarm.0),
            kind,
            round: self.round_number(),
            start: self.newest().1,
            sender: self.me,
            sequence: self.sequence,
            body: wire::encode(body),
        });
        let signature = Sig(self.identity.sign(ENVELOPE_DOMAIN, &payload));
        let bytes = wire::encode(&Envelope { payload, signature });
        // A message that its own topic refuses would be dropped by everybody; counting it here says so.
        let admitted = admission::authenticate(&self.swarm, Some(kind.topic()), &bytes)
            .and_then(|message| admission::admit(&self.manifest, message));
        if admitted.is_err() {
            self.count_drop("own message beyond the manifest's bounds", Some(self.me));
        }
        admitted.ok()
    }

    fn accept(&mut self, now: u64, message: Admitted) -> Result<(), Refusal> {
        // After a restart, what this peer said in the round before is news to it; without it, it could sign no
        // statement that includes its own answers.
        let restarted = self.round.as_ref().is_some_and(|round| round.muted);
        let item =
            matches!(message.body, Body::Commit(_) | Body::Reveal(_) | Body::Critique(_) | Body::Ballot(_));
        if message.sender == self.me && !(restarted && item) {
            return Err(Refusal::Known("own message came back"));
        }
        let (sender, bytes) = (message.sender, message.bytes.len());
        let of_view = matches!(message.body, Body::Proposal(_) | Body::Signature(_));
        if !self.defences.fresh {
            self.presence.heard(now, &sender);
        }
        if self.defences.one_slot && self.defences.one_statement {
            self.compare(now, &message);
        }
        let outcome = match &message.body {
            Body::Presence(presence) => self.accept_presence(now, &message, presence),
            Body::Proposal(proposal) => self.accept_proposal(now, message.sender, &proposal.statement),
            Body::Signature(signature) => self.accept_signature(now, message.sender, signature),
            Body::Certificate(_) => self.accept_certificate(now, &message),
            Body::Proof(_, offence) => {
                let offence = *offence;
                self.accept_proof(now, message, offence)
            }
            Body::Commit(_) | Body::Reveal(_) | Body::Critique(_) | Body::Ballot(_) => {
                self.accept_item(message)
            }
        };
        // Not what is old: anybody can repeat the messages of a peer that is gone.
        outcome?;
        self.presence.heard(now, &sender);
        // It is of use here, as old ones would not be; but views rise without end, and whoever passes all of them on
        // floods the swarm in their author's name.
        if of_view && self.defences.quota && !self.shares.take(now, &sender, bytes) {
            return Err(Refusal::Ignore("more proposals and signatures of one peer than its share"));
        }
        Ok(())
    }

    fn accept_presence(&mut self, now: u64, message: &Admitted, presence: &Presence) -> Result<(), Refusal> {
        let peer = message.sender;
        match self.presence.heartbeat(now, peer, message.sequence, presence) {
            Change::Stale => return Err(Refusal::Known("an older heartbeat")),
            Change::TooMany => return Err(Refusal::Ignore("more heartbeats of one peer than its share")),
            Change::Alive => {}
            Change::Moved => self.output(Output::Dial(peer, presence.addresses.clone())),
            Change::Appeared => {
                self.event(Event::PeerAppeared { peer });
                self.output(Output::Dial(peer, presence.addresses.clone()));
                // Answering at once shortens the start of a swarm by up to a heartbeat.
                self.next_heartbeat_ms = self.next_heartbeat_ms.min(now + REPAIR_EVERY_MS);
            }
            Change::Left(reason) => self.event(Event::PeerLeft { peer, reason }),
        }
        if presence.view > self.newest().0 {
            self.ask(now, peer);
        }
        Ok(())
    }

    /// Puts a commit, reveal, critique or ballot in its slot.
    fn accept_item(&mut self, message: Admitted) -> Result<(), Refusal> {
        if message.start != self.newest().1 {
            return self.keep_for_later(message);
        }
        if self.round.is_none() {
            return Err(Refusal::Known("of another round"));
        }
        let sender = message.sender;
        let contradicted = self.round.as_ref().and_then(|round| {
            round.items.contradicted(&sender, &message.id, &message.body).map(<[u8]>::to_vec)
        });
        if let Some(first) = contradicted.filter(|_| self.defences.one_slot) {
            let pair = [first, message.bytes.clone()].map(|bytes| Evidence::Envelope(bytes.into()));
            let [first, second] = pair;
            self.accuse(Proof { first, second });
        }
        match self.place(message) {
            Some(Placed::New) => Ok(()),
            Some(Placed::Duplicate) => Err(Refusal::Known("already here")),
            Some(Placed::Uncommitted) => Err(Refusal::Ignore("a reveal that its commit does not cover")),
            Some(Placed::Conflict) => Err(Refusal::Ignore("a second message for one slot")),
            None => Err(Refusal::Ignore("of a peer outside the roster")),
        }
    }

    /// The author may be one certificate ahead, or on another branch; its message counts once this peer is there
    /// too.
    fn keep_for_later(&mut self, message: Admitted) -> Result<(), Refusal> {
        let current = self.round_number();
        let near = message.round == current || message.round == current.saturating_add(1);
        if !near || self.previous.as_ref().is_some_and(|previous| previous.start == message.start) {
            return Err(Refusal::Known("of another round"));
        }
        if self.early.iter().any(|early| early.id == message.id) {
            return Err(Refusal::Known("already here"));
        }
        if self.defences.quota {
            let theirs = self.early.iter().filter(|early| early.sender == message.sender).count();
            if theirs >= EARLY_ROUNDS_MAX * self.slots_each() {
                return Err(Refusal::Ignore("too many messages of one peer for the next round"));
            }
        }
        let bytes: usize = self.early.iter().map(|early| early.bytes.len()).sum();
        if self.early.len() >= EARLY_MESSAGES_MAX || bytes + message.bytes.len() > EARLY_BYTES_MAX {
            return Err(Refusal::Ignore("too many messages of the next round"));
        }
        self.early.push(message);
        Ok(())
    }

    /// Messages that one member says in a round.
    fn slots_each(&self) -> usize {
        SINGLE_SLOTS + usize::from(self.manifest.round.prompts)
    }

    fn output(&mut self, output: Output) {
        if self.outputs.len() < OUTPUTS_MAX {
            self.outputs.push_back(output);
        } else {
            *self.dropped.entry("the caller does not drain the engine").or_default() += 1;
        }
    }

    fn event(&mut self, event: Event) {
        self.output(Output::Event(event));
    }

    fn count_refusal(&mut self, refusal: Refusal, peer: Option<PeerKey>) {
        match refusal {
            Refusal::Known(reason) => *self.dropped.entry(reason).or_default() += 1,
            Refusal::Reject(reason) | Refusal::Ignore(reason) => self.count_drop(reason, peer),
        }
    }

    fn count_drop(&mut self, reason: &'static str, peer: Option<PeerKey>) {
        let count = self.dropped.entry(reason).or_default();
        *count += 1;
        if *count == 1 {
            self.event(Event::Dropped { reason, peer });
        }
    }
}
