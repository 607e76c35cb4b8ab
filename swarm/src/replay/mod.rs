//! The replay of a log: the rounds folded again from their messages, by the code that the engine settles with.
//!
//! Every signature, included message, settlement, state and certificate is computed again, and so is what the log's
//! owner said of its training as far as messages tell. A replay stops at the first difference and names peer, round
//! and field.
//!
//! Reading order: `fold` (rounds and certificates), `said` (messages, bodies, proofs), `follow` (where it goes on
//! from), `steps` (training), `seals` (that the log is as its owner left
//! it), `credit` (what each peer contributed), `transcript` (a round in the words of its peers).

mod compare;
mod credit;
mod fold;
mod follow;
mod names;
mod said;
mod seals;
mod steps;
#[cfg(test)]
mod tests;
mod transcript;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use judge::PeerKey;
use tasks::{Catalogue, PackId};

pub use compare::{Parting, compare};
pub use credit::Credit;
pub use fold::Outcome;
pub use transcript::{Answers, Transcript};

use crate::checkpoint::Checkpoint;
use crate::engine::Settled;
use crate::limits::PROTOCOL;
use crate::log::{Frame, Header, LogError, Reader, Record, Torn};
use crate::manifest::{Manifest, ManifestError};
use crate::topic::SwarmId;
use crate::wire::{self, Hash};
use fold::{Fold, Folded, Wanted};
use seals::Seals;
use steps::Steps;

/// Bytes of an encoded manifest.
const MANIFEST_BYTES_MAX: usize = 256 * 1024;

/// Where a log and its replay part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Whose word it is; the log's owner for what only the owner says.
    pub peer: PeerKey,
    /// Round that it belongs to; 0 before the first.
    pub round: u32,
    /// What kind of thing, such as `ballot`.
    pub what: &'static str,
    /// Which part of it.
    pub field: String,
    /// How they differ.
    pub why: String,
    /// Position of the record, from 0.
    pub record: u64,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, round, what, field, why, record } = self;
        write!(f, "round {round}, {what} of {}, {field}: {why} (record {record})", peer.name())
    }
}

/// What a finding is about, before its place in the log is known.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    peer: Option<PeerKey>,
    round: Option<u32>,
    what: &'static str,
    field: String,
    why: String,
}

impl Finding {
    fn new(what: &'static str, field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { peer: None, round: None, what, field: field.into(), why: why.into() }
    }

    fn of(self, peer: PeerKey) -> Self {
        Self { peer: Some(peer), ..self }
    }

    fn in_round(self, round: u32) -> Self {
        Self { round: Some(round), ..self }
    }
}

/// Why a log cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Its manifest cannot work.
    #[error("the log's manifest: {0}")]
    Manifest(#[from] ManifestError),
    /// The swarm took in a pack that the catalogue has not set aside.
    #[error("the swarm took in the pack {0}, which is not here")]
    Pack(PackId),
    /// It says something else than its replay.
    #[error("{0}")]
    Differs(Box<Difference>),
}

/// Rounds that were followed without their messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// First.
    pub from: u32,
    /// Last.
    pub to: u32,
    /// Whether certificates link it to what came before; else the owner's word is taken for it.
    pub linked: bool,
}

/// A peer that was left out for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conviction {
    /// Who.
    pub peer: PeerKey,
    /// Round whose certificate convicts it first.
    pub round: u32,
    /// Whether the log has the proof; else a quorum's word is taken for it.
    pub proven: bool,
}

/// What a replay came to.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// Whose log it is.
    pub peer: PeerKey,
    /// What the swarm agreed on.
    pub manifest: Manifest,
    /// Every round that was settled again, by number.
    pub rounds: Vec<Outcome>,
    /// Rounds that could not be, since the peer was not there.
    pub skipped: Vec<Skipped>,
    /// Who was convicted of saying two things, by key.
    pub convictions: Vec<Conviction>,
    /// The newest certificate that the log shows to be final: what a newcomer may verify from.
    pub checkpoint: Option<Checkpoint>,
    /// Training steps checked against messages.
    pub steps: Vec<crate::log::Training>,
    /// What its owner said of how it learns, as JSON, with the position of the first step that it is true of.
    pub learners: Vec<(usize, String)>,
    /// What each peer contributed.
    pub credit: BTreeMap<PeerKey, Credit>,
    /// Records read.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Records after the last seal.
    pub unsealed: u64,
    /// Whether the log ends with its owner's closing seal.
    pub closed: bool,
    /// The torn tail, if it has one.
    pub torn: Option<Torn>,
}

impl Replayed {
    /// How the step at a position of [`Self::steps`] was taken.
    pub fn learner(&self, step: usize) -> Option<&str> {
        let before = self.learners.iter().rev().find(|(first, _)| *first <= step);
        before.map(|(_, settings)| &settings[..])
    }
}

/// What a peer learnt from in a round, as far as messages tell.
#[derive(Clone, Debug)]
pub struct StepInputs {
    /// What the round came to.
    pub settled: Settled,
    /// Seed of the peer's sampling.
    pub seed: Hash,
    /// Its completions, one list a prompt; empty where it showed none.
    pub completions: Vec<Vec<String>>,
}

/// A replay in progress.
pub struct Replay {
    reader: Reader,
    header: Header,
    manifest: Manifest,
    first: Option<Frame>,
}

impl Replay {
    /// Opens a log and reads whose it is.
    ///
    /// # Errors
    /// [`ReplayError`]: no readable log, or a header that contradicts itself.
    pub fn open(mut reader: Reader) -> Result<Self, ReplayError> {
        let differs = |peer, field: &str, why: &str| {
            let (field, why) = (field.to_owned(), why.to_owned());
            ReplayError::Differs(Box::new(Difference {
                peer,
                round: 0,
                what: "header",
                field,
                why,
                record: 0,
            }))
        };
        let first = reader.next_frame()?;
        let Some(Record::Header(header)) = first.as_ref().map(|frame| frame.record.clone()) else {
            return Err(differs(PeerKey([0; 32]), "record", "a log begins with a header, this one does not"));
        };
        if header.version != PROTOCOL {
            let why = format!("the log is of protocol {}, this program speaks {PROTOCOL}", header.version);
            return Err(differs(header.peer, "version", &why));
        }
        let manifest: Manifest = wire::decode(&header.manifest, MANIFEST_BYTES_MAX)
            .map_err(|why| differs(header.peer, "manifest", &why.to_string()))?;
        if manifest.id().0 != header.swarm.0 {
            return Err(differs(header.peer, "swarm", "is not the hash of the manifest"));
        }
        manifest.validate()?;
        Ok(Self { reader, header, manifest, first })
    }

    /// Whose log it is.
    pub fn peer(&self) -> PeerKey {
        self.header.peer
    }

    /// The swarm.
    pub fn swarm(&self) -> SwarmId {
        self.manifest.id()
    }

    /// What the swarm agreed on.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Folds the log, up to the seal at the end of round `to_round` if that is given. `catalogue` is that of the
    /// manifest's packs, with those set aside that the swarm took in.
    ///
    /// # Errors
    /// [`ReplayError::Differs`] at the first difference; [`ReplayError::Log`] where the file cannot be read.
    pub fn run(self, catalogue: Catalogue, to_round: Option<u32>) -> Result<Replayed, ReplayError> {
        self.fold(catalogue, to_round, Wanted::Outcome, |_| Ok(())).map(|(replayed, _)| replayed)
    }

    /// Folds the whole log and hands out every round that counts, in order, as soon as no other branch can replace it.
    /// What was handed out is true only if the log holds to its end.
    ///
    /// # Errors
    /// As [`Self::run`], or what `tell` stops with.
    pub fn transcripts<E: From<ReplayError>>(
        self,
        catalogue: Catalogue,
        tell: impl FnMut(Transcript) -> Result<(), E>,
    ) -> Result<Replayed, E> {
        self.fold(catalogue, None, Wanted::Transcripts, tell).map(|(replayed, _)| replayed)
    }

    /// Folds the log up to the end of `rounds` for what its owner learnt from in them.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn inputs(
        self,
        catalogue: Catalogue,
        rounds: RangeInclusive<u32>,
    ) -> Result<Vec<StepInputs>, ReplayError> {
        let to_round = *rounds.end();
        self.fold(catalogue, Some(to_round), Wanted::Inputs(rounds), |_| Ok(())).map(|(_, inputs)| inputs)
    }

    fn fold<E: From<ReplayError>>(
        mut self,
        catalogue: Catalogue,
        to_round: Option<u32>,
        wanted: Wanted,
        mut tell: impl FnMut(Transcript) -> Result<(), E>,
    ) -> Result<(Replayed, Vec<StepInputs>), E> {
        let owner = self.header.peer;
        let fold = Fold::new(self.manifest.clone(), catalogue, owner, wanted);
        let mut fold = fold.map_err(ReplayError::from)?;
        let mut steps = Steps::new(owner);
        let mut seals = Seals::new(self.manifest.id(), owner);
        let mut next = self.first.take();
        while let Some(frame) = next {
            let record = frame.index;
            let sealed = matches!(frame.record, Record::Seal(_));
            let found = take(&mut fold, &mut steps, &mut seals, frame);
            if let Some(pack) = fold.lacks {
                return Err(ReplayError::Pack(pack).into());
            }
            found.map_err(|finding| place(finding, owner, fold.round(), record))?;
            fold.counted.drain(..).try_for_each(&mut tell)?;
            if sealed && to_round.is_some_and(|to| fold.settled() >= to) {
                break;
            }
            next = match self.reader.next_frame() {
                Err(LogError::Damaged { why, record, offset, .. }) => {
                    let why = format!("{why}, at byte {offset}");
                    let finding = Finding::new("record", "checksum", why);
                    return Err(place(finding, owner, fold.round(), record).into());
                }
                other => other.map_err(ReplayError::from)?,
            };
        }
        let inputs = std::mem::take(&mut fold.inputs);
        let Folded { rounds, skipped, credit, convictions, checkpoint, counted } = fold.finish();
        counted.into_iter().try_for_each(tell)?;
        let replayed = Replayed {
            peer: owner,
            manifest: self.manifest,
            rounds,
            skipped,
            convictions,
            checkpoint,
            steps: steps.taken,
            learners: steps.learners,
            credit,
            records: self.reader.records(),
            bytes: self.reader.offset(),
            unsealed: seals.unsealed(),
            closed: seals.closed(),
            torn: self.reader.torn(),
        };
        Ok((replayed, inputs))
    }
}

/// Checks one record.
fn take(fold: &mut Fold, steps: &mut Steps, seals: &mut Seals, frame: Frame) -> Result<(), Finding> {
    seals.order(&frame.record)?;
    match &frame.record {
        Record::Header(_) => {}
        Record::Learner { settings } => steps.learner(settings),
        Record::Opened { certificates, place, state, .. } => {
            steps.restart();
            fold.open(certificates, place, state)?;
        }
        Record::Message { late, envelope } => {
            let message = fold.message(*late, envelope)?;
            steps.message(&message)?;
            seals.about(names::name(&message.body), message.sender, message.round);
        }
        Record::Body { blob, bytes } => {
            let (author, round) = fold.body(blob, bytes)?;
            seals.about("body", author, round);
        }
        Record::Certificate { certificate } => fold.certificate(certificate)?,
        Record::Checkpoint { certificates } => fold.checkpoint(certificates)?,
        Record::Gap { certificates, state } => fold.gap(certificates, state)?,
        Record::Training(training) => steps.training(fold, training)?,
        Record::Seal(seal) => seals.check(seal, &frame)?,
    }
    seals.note(&frame, fold.round());
    Ok(())
}

fn place(finding: Finding, owner: PeerKey, round: u32, record: u64) -> ReplayError {
    let Finding { peer, round: of, what, field, why } = finding;
    let (peer, round) = (peer.unwrap_or(owner), of.unwrap_or(round));
    ReplayError::Differs(Box::new(Difference { peer, round, what, field, why, record }))
}

/// How two hashes that should be one differ.
fn unlike(computed: &Hash, stated: &Hash) -> String {
    format!("is {computed} by the log, {stated} is stated")
}
