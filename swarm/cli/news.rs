//! What a peer tells its surroundings while it works.

use std::sync::Arc;

use policy::UpdateReport;
use swarm::engine::{Event, PhaseName, Settled};

use crate::sampled::Sampled;
use crate::traffic::Traffic;

/// What a peer tells about a round.
#[derive(Clone)]
pub(crate) struct RoundNews {
    pub(crate) settled: Arc<Settled>,
    /// From one certificate to the next.
    pub(crate) wall_ms: u64,
    /// Training before the answers, sampling, and scoring.
    pub(crate) train_ms: u64,
    pub(crate) answer_ms: u64,
    pub(crate) critique_ms: u64,
    pub(crate) sampled: Arc<Sampled>,
    /// Loss of the step taken before this round's answers.
    pub(crate) loss: Option<f32>,
    /// Candidates whose critiques, written a round before, the step after this round learns from.
    pub(crate) critiques_trained: usize,
    /// What auditing others took.
    pub(crate) audits: AuditCost,
    /// What the step after this round learns from, one list of rewards a group.
    pub(crate) rewards: Vec<Vec<f32>>,
}

/// What a peer's audits of a round took.
#[derive(Clone, Copy, Default)]
pub(crate) struct AuditCost {
    pub(crate) count: usize,
    /// Weights fetched.
    pub(crate) bytes: usize,
    pub(crate) took_ms: u64,
}

/// What a peer tells its surroundings.
pub(crate) enum News {
    /// A round ended.
    Round(Box<RoundNews>),
    /// Something happened that people may want to know.
    Happened(u32, Event),
    /// The step on a round is taken, or not: then why.
    Trained(u32, Box<UpdateReport>),
    /// Own work took this many milliseconds and came after the phase that it was for.
    Late(u32, PhaseName, u64),
    /// How the network stands; about once a second.
    Traffic(Box<Traffic>),
    /// Something about packs under vote or taken in, in words.
    Pack(String),
    /// Something about the network, in words.
    Network(String),
    /// What an own audit found, before the others' findings decide what it means, in words.
    Audit(String),
}
