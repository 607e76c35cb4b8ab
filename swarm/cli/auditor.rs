//! Looking at other peers' answers, in a thread of its own: no phase waits for it.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Context;
use judge::{DUTIES_MAX, Finding, PeerKey};
use policy::{Policy, SamplingWeights, TextClaim};
use swarm::engine::AuditCase;
use swarm::wire::Hash;
use tokio::sync::mpsc as results;

use crate::weights::{Bases, Unusable};

/// What came of an audit, and what it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Audited {
    pub(crate) round: u32,
    pub(crate) peer: PeerKey,
    pub(crate) finding: Finding,
    /// Why, where it is not passed.
    pub(crate) why: String,
    pub(crate) bytes: usize,
    pub(crate) took_ms: u64,
}

/// The handle of an auditor's thread; dropping it ends the thread after the audit in hand.
pub(crate) struct Auditor {
    jobs: mpsc::SyncSender<Box<AuditCase>>,
    pub(crate) done: results::Receiver<Audited>,
    _thread: JoinHandle<()>,
}

impl Auditor {
    /// Starts the thread of a peer.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(name: &str, bases: Bases, new_tokens_max: usize) -> anyhow::Result<Self> {
        let (jobs, receive) = mpsc::sync_channel::<Box<AuditCase>>(DUTIES_MAX);
        let (send, done) = results::channel(DUTIES_MAX);
        let work = move || {
            while let Ok(case) = receive.recv() {
                if send.blocking_send(audit(&bases, &case, new_tokens_max)).is_err() {
                    break; // the peer is gone
                }
            }
        };
        let thread = std::thread::Builder::new().name(format!("auditor-{name}"));
        let thread = thread.spawn(work).context("no thread for the auditor")?;
        Ok(Self { jobs, done, _thread: thread })
    }

    /// Has a case looked at; `false` if as many as one round can have wait already.
    pub(crate) fn ask(&self, case: Box<AuditCase>) -> bool {
        self.jobs.try_send(case).is_ok()
    }
}

/// Computes the answers of a case again.
pub(crate) fn audit(bases: &Bases, case: &AuditCase, new_tokens_max: usize) -> Audited {
    let begun = Instant::now();
    let (finding, why) = match look(bases, case, new_tokens_max) {
        Ok(()) => (Finding::Pass, String::new()),
        Err(Unusable::Wrong(why)) => (Finding::Fail, why),
        Err(Unusable::Foreign(why)) => (Finding::Inconclusive, why),
    };
    Audited {
        round: case.round,
        peer: case.peer,
        finding,
        why,
        bytes: case.weights.len(),
        took_ms: begun.elapsed().as_millis() as u64,
    }
}

fn look(bases: &Bases, case: &AuditCase, new_tokens_max: usize) -> Result<(), Unusable> {
    let wrong = |why: String| Err(Unusable::Wrong(why));
    if ![SamplingWeights::F32, SamplingWeights::Bf16]
        .map(SamplingWeights::numerics)
        .contains(&&*case.numerics)
    {
        return Err(Unusable::Foreign(format!("answers computed by {}", case.numerics)));
    }
    let (policy, sampling) = bases.open(&case.weights, new_tokens_max)?;
    if policy.sampling_weights().numerics() != case.numerics {
        return wrong(format!("weights of another precision than {} has", case.numerics));
    }
    if Hash(policy.hash()) != case.policy {
        return wrong("other weights than it committed to".into());
    }
    replay(&policy, &sampling, case)
}

fn replay(policy: &Policy, sampling: &policy::Sampling, case: &AuditCase) -> Result<(), Unusable> {
    if case.answers.iter().any(|shown| shown.texts.len() != usize::from(case.completions)) {
        return Err(Unusable::Wrong("too few completions".into()));
    }
    let claims: Vec<TextClaim> = case
        .answers
        .iter()
        .map(|shown| TextClaim {
            prompt: shown.item.prompt(),
            position: shown.position.into(),
            texts: &shown.texts,
        })
        .collect();
    // A prompt that the model cannot read is no fault of whoever was asked it.
    let found = policy.replay_texts(&claims, sampling, &case.seed);
    let found = found.map_err(|error| Unusable::Foreign(error.to_string()))?;
    let differs = case.answers.iter().zip(found).find_map(|(shown, at)| Some((shown.position, at?)));
    match differs {
        None => Ok(()),
        Some((prompt, at)) => {
            Err(Unusable::Wrong(format!("completion {at} of prompt {prompt} is not what its weights sample")))
        }
    }
}

#[cfg(test)]
mod tests;
