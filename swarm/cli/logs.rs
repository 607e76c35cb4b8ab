//! The logs of a run: where they are, and what a replay needs besides them.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use swarm::log::Reader;
use swarm::manifest::Manifest;
use swarm::replay::{Replay, ReplayError, Replayed, StepInputs, Transcript};
use tasks::Catalogue;

use crate::disk::log_path;
use crate::packs::{self, PackSource};
use crate::record::RunDir;

/// One log and what is known of it from elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct LogFile {
    /// Name of the peer, as the run has it; empty for a file that is given by itself.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Public key that the run's record names, in hexadecimal; empty if none does.
    key: String,
    packs: Vec<PackSource>,
    /// Whether the run has ended well, so that the log must have.
    pub(crate) ended: bool,
}

/// The logs of a run directory, or the one log that `path` is; only `peer`'s if a name is given.
///
/// # Errors
/// There is none.
pub(crate) fn find(path: &Path, peer: Option<&str>) -> anyhow::Result<Vec<LogFile>> {
    if path.is_file() {
        let file = LogFile {
            name: String::new(),
            path: path.into(),
            key: String::new(),
            packs: packs::native(),
            ended: false,
        };
        return Ok(vec![file]);
    }
    let (run, info) = RunDir::open(path)?;
    let ended = run.report()?.is_some_and(|report| report.finished);
    let mut found = Vec::new();
    for known in info.peers.iter().filter(|known| peer.is_none_or(|name| known.name == name)) {
        let path =
            log_path(run.checkpoint(&known.name)?.parent().context("a checkpoint lies in a directory")?);
        if path.exists() {
            let (name, key, packs) = (known.name.clone(), known.key.clone(), info.packs.clone());
            found.push(LogFile { name, path, key, packs, ended });
        } else if ended {
            bail!("{} is missing: the run has ended, and every peer of it wrote a log", path.display());
        }
    }
    if found.is_empty() {
        let names: Vec<&str> = info.peers.iter().map(|peer| peer.name.as_str()).collect();
        bail!("{} has no log\nhint: its peers are {}", path.display(), names.join(", "));
    }
    Ok(found)
}

/// The log with the most rounds, of those that [`find`] finds, and its replay; the first among equals.
///
/// # Errors
/// No log, or one in which something does not follow.
pub(crate) fn fullest(
    path: &Path,
    peer: Option<&str>,
    to_round: Option<u32>,
) -> anyhow::Result<(LogFile, Replayed)> {
    let mut fullest: Option<(LogFile, Replayed)> = None;
    for log in find(path, peer)? {
        let replayed = log.replay(to_round).with_context(|| format!("the log of {}", log.name))?;
        if fullest.as_ref().is_none_or(|(_, best)| best.rounds.len() < replayed.rounds.len()) {
            fullest = Some((log, replayed));
        }
    }
    fullest.context("there is no log")
}

impl LogFile {
    /// Replays the log.
    ///
    /// # Errors
    /// [`swarm::replay::ReplayError`], or packs that are not the ones the swarm agreed on.
    pub(crate) fn replay(&self, to_round: Option<u32>) -> anyhow::Result<Replayed> {
        let replayed = self.fold(|replay, catalogue| Ok(replay.run(catalogue, to_round)?))?;
        if to_round.is_none() {
            self.check_end(&replayed)?;
        }
        Ok(replayed)
    }

    /// Replays the log and hands out each round in the words of its peers; true only if this does not fail.
    ///
    /// # Errors
    /// As [`Self::replay`], or what `tell` stops with.
    pub(crate) fn transcripts(
        &self,
        mut tell: impl FnMut(Transcript) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut told = 0;
        let replayed = self.fold(|replay, catalogue| {
            let mut at = 0;
            replay.transcripts(catalogue, |transcript| {
                at += 1;
                // Those before are told again where the fold begins again with another pack.
                if at <= told { Ok(()) } else { tell(transcript).inspect(|()| told = at) }
            })
        })?;
        self.check_end(&replayed)
    }

    fn check_end(&self, replayed: &Replayed) -> anyhow::Result<()> {
        if self.ended && !replayed.closed {
            bail!(
                "record {}, closing seal: is missing, though the run has ended: records at the end were removed",
                replayed.records
            );
        }
        Ok(())
    }

    /// What the log's owner learnt from in some rounds.
    ///
    /// # Errors
    /// As [`Self::replay`].
    pub(crate) fn inputs(&self, rounds: RangeInclusive<u32>) -> anyhow::Result<Vec<StepInputs>> {
        self.fold(|replay, catalogue| Ok(replay.inputs(catalogue, rounds.clone())?))
    }

    /// Folds the log; again with each pack that the swarm turns out to have taken in.
    fn fold<T>(&self, mut fold: impl FnMut(Replay, Catalogue) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let mut catalogue = self.catalogue(self.open()?.manifest())?;
        loop {
            let folded = fold(self.open()?, catalogue.clone());
            let lacks = folded.as_ref().err().and_then(|error| match error.downcast_ref() {
                Some(ReplayError::Pack(id)) => Some(*id),
                _ => None,
            });
            let Some(id) = lacks.filter(|id| !catalogue.has_aside(id)) else { return folded };
            let pack = packs::open(&id.to_string());
            catalogue
                .set_aside(pack.context("the swarm took in a pack that this log cannot be read without")?);
        }
    }

    fn open(&self) -> anyhow::Result<Replay> {
        let replay = Replay::open(Reader::open(&self.path)?)?;
        if !self.key.is_empty() && replay.peer().hex() != self.key {
            let name = replay.peer().name();
            bail!("header, peer: is {name}, the run's record says that this is the log of {}", self.name);
        }
        Ok(replay)
    }

    fn catalogue(&self, manifest: &Manifest) -> anyhow::Result<Catalogue> {
        let catalogue = packs::catalogue("run.json", &self.packs)?;
        let here: Vec<(String, u32)> =
            catalogue.packs().iter().map(|(pack, weight)| (pack.pin(), *weight)).collect();
        let agreed: Vec<(String, u32)> =
            manifest.packs.iter().map(|pin| (pin.id.clone(), pin.weight)).collect();
        if here != agreed {
            let names =
                |pins: &[(String, u32)]| pins.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>().join(", ");
            bail!(
                "the swarm agreed on the packs {}, here are {}\nhint: give the run directory, with its packs where its run.json says",
                names(&agreed),
                names(&here)
            );
        }
        Ok(catalogue)
    }
}
