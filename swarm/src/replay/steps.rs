//! What a log's owner says of its training, against the messages it sent.

use judge::PeerKey;

use super::fold::Fold;
use super::{Finding, unlike};
use crate::admission::{Admitted, Body};
use crate::engine::sampling_seed;
use crate::log::Training;
use crate::wire::Hash;

/// The training steps of one log.
pub(super) struct Steps {
    owner: PeerKey,
    /// Policy after the last step of this start.
    policy: Option<Hash>,
    pub(super) taken: Vec<Training>,
    pub(super) learners: Vec<(usize, String)>,
}

impl Steps {
    pub(super) fn new(owner: PeerKey) -> Self {
        Self { owner, policy: None, taken: Vec::new(), learners: Vec::new() }
    }

    /// A start goes on from a checkpoint, which may be older than the last step.
    pub(super) fn restart(&mut self) {
        self.policy = None;
    }

    /// How the owner learns from here on.
    pub(super) fn learner(&mut self, settings: &str) {
        if self.learners.last().is_none_or(|(_, last)| last != settings) {
            self.learners.push((self.taken.len(), settings.to_owned()));
        }
    }

    /// The owner answers with the policy that its last step made.
    pub(super) fn message(&self, message: &Admitted) -> Result<(), Finding> {
        let Body::Reveal(reveal) = &message.body else { return Ok(()) };
        match self.policy.filter(|_| message.sender == self.owner) {
            Some(policy) if policy != reveal.policy => {
                let why = format!("is {}, the last training step made {policy}", reveal.policy);
                Err(Finding::new("reveal", "policy", why).of(message.sender).in_round(message.round))
            }
            _ => Ok(()),
        }
    }

    /// Checks a step against the round it learnt from and the step before.
    pub(super) fn training(&mut self, fold: &Fold, training: &Training) -> Result<(), Finding> {
        let wrong = |field: &str, why: String| {
            Finding::new("training step", field, why).of(self.owner).in_round(training.round)
        };
        if self.policy.is_some_and(|policy| policy != training.before) {
            return Err(wrong("before", "is not the policy that the step before made".into()));
        }
        let rising =
            self.taken.last().is_none_or(|last| last.round < training.round || self.policy.is_none());
        let Some((play, beacon)) = fold.play(training.round).filter(|_| rising) else {
            return Err(wrong("round", format!("{} has not just ended", training.round)));
        };
        let own = play.items.said(&self.owner).and_then(|said| said.reveals.values().next());
        // Without answers of its own in the round, a peer may learn from critiques alone.
        let seed = sampling_seed(beacon, &self.owner);
        if training.seed != seed && (own.is_some() || training.seed != Hash::default()) {
            return Err(wrong("seed", unlike(&seed, &training.seed)));
        }
        if let Some(reveal) = own.map(|stored| &stored.body) {
            if reveal.policy != training.before {
                return Err(wrong("before", "is not the policy that answered".into()));
            }
            if reveal.numerics != training.numerics {
                return Err(wrong("numerics", format!("is not {}, which answered", reveal.numerics)));
            }
        }
        self.policy = Some(training.after);
        self.taken.push(training.clone());
        Ok(())
    }
}
