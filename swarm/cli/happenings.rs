//! What happens to a peer, in sentences for people.

use std::collections::BTreeMap;

use judge::PeerKey;
use swarm::engine::{Event, PhaseName, Status};

use crate::audits;
use crate::record::Level;

/// An event in a sentence; `None` for what happens in every round.
pub(crate) fn text(event: &Event) -> Option<String> {
    match event {
        Event::PeerAppeared { peer } => Some(format!("{} is here", peer.name())),
        Event::PeerLeft { peer, reason } => Some(format!("{} left: {reason}", peer.name())),
        Event::PhaseClosed { missing, .. } if missing.is_empty() => None,
        Event::PhaseClosed { phase, missing, took_ms, .. } => {
            let seconds = *took_ms as f64 / 1000.0;
            Some(format!("{}: went on without {} after {seconds:.1} s", phase.as_str(), names(missing)))
        }
        Event::Certified { degraded: true, round, .. } => {
            Some(format!("round {round} starts without a quorum: only a part of the swarm stands behind it"))
        }
        Event::Certified { .. } | Event::Final { .. } => None,
        Event::Switched { .. } => {
            Some("the others certified the round differently; went over to them".into())
        }
        Event::ViewVoid { view, proposer, unsigned } => {
            let why = match unsigned.as_deref() {
                None => format!("no proposal came from {}", proposer.name()),
                Some([]) => format!("no certificate came from {}", proposer.name()),
                Some(peers) => {
                    format!("too few signed what {} proposed; not in: {}", proposer.name(), names(peers))
                }
            };
            Some(format!("view {view} is void: {why}; the next peer proposes"))
        }
        Event::CaughtUp { rounds } => {
            Some(format!("caught up over {rounds} certificates, without training on them"))
        }
        Event::Quiet { view } => Some(format!(
            "the swarm knows this key, but what it signed is not stored here: takes no part before a certificate after view {view} is final, so that it cannot contradict itself"
        )),
        Event::QuietOver { view } => Some(format!("view {view} is final: takes part again")),
        Event::Dropped { reason, peer } => {
            let by = peer.map_or(String::new(), |peer| format!(" (first by {})", peer.name()));
            Some(format!("a message was dropped: {reason}{by}"))
        }
        Event::Equivocated { peer, slot, .. } => {
            Some(format!("{} signed {slot} and is left out from now on", peer.name()))
        }
        Event::Spoilt { peer, prompt, why } => {
            Some(format!("{}'s answers do not count: prompt {prompt} has {why}", peer.name()))
        }
        Event::Audited { peer, report } => Some(audits::sentence(peer, report)),
        // Told with how long the work took.
        Event::TooLate { .. } => None,
    }
}

/// Names of peers in a list.
pub(crate) fn names(peers: &[PeerKey]) -> String {
    peers.iter().map(PeerKey::name).collect::<Vec<_>>().join(", ")
}

/// A phase and who is awaited, in a sentence.
pub(crate) fn waiting(status: &Status) -> String {
    let seconds = status.deadline_in_ms.div_ceil(1000);
    match status.phase {
        PhaseName::Gather => format!("waiting for peers: {} of {} here", status.live + 1, status.wanted),
        _ if !status.lacks.is_empty() => lacking(&status.lacks),
        phase if status.awaited.is_empty() => phase.as_str().to_owned(),
        phase => {
            format!("{}: waiting for {} (deadline in {seconds} s)", phase.as_str(), names(&status.awaited))
        }
    }
}

/// Why no certificate comes, and what to do.
pub(crate) fn lacking(lacks: &BTreeMap<PeerKey, Option<String>>) -> String {
    let who = |(peer, left): (&PeerKey, &Option<String>)| match left {
        Some(reason) => format!("{}, who left ({reason})", peer.name()),
        None => format!("{}, who is not heard", peer.name()),
    };
    let who: Vec<String> = lacks.iter().map(who).collect();
    format!("too few of those who must sign are here; start again, with its key: {}", who.join("; "))
}

/// A family that moved to another level, and how many are open now.
pub(crate) fn level_moved((family, rank): (&String, &u8)) -> String {
    format!("{family}: {} of its levels are open now", u16::from(*rank) + 1)
}

/// How much it matters.
pub(crate) fn level(event: &Event) -> Level {
    match event {
        Event::PhaseClosed { .. }
        | Event::Certified { degraded: true, .. }
        | Event::Switched { .. }
        | Event::ViewVoid { .. }
        | Event::CaughtUp { .. }
        | Event::Quiet { .. }
        | Event::Dropped { .. }
        | Event::Spoilt { .. } => Level::Warn,
        Event::Audited { report, .. } if !audits::is_routine(report) => Level::Warn,
        Event::Equivocated { .. } => Level::Error,
        _ => Level::Info,
    }
}

/// The name of its kind in `events.jsonl`.
pub(crate) fn kind(event: &Event) -> &'static str {
    match event {
        Event::PeerAppeared { .. } => "peer_appeared",
        Event::PeerLeft { .. } => "peer_left",
        Event::PhaseClosed { .. } => "phase_closed",
        Event::Certified { .. } => "certified",
        Event::Final { .. } => "final",
        Event::Switched { .. } => "switched",
        Event::ViewVoid { .. } => "view_void",
        Event::CaughtUp { .. } => "caught_up",
        Event::Quiet { .. } => "quiet",
        Event::QuietOver { .. } => "quiet_over",
        Event::Dropped { .. } => "dropped",
        Event::Equivocated { .. } => "equivocated",
        Event::Spoilt { .. } => "spoilt",
        Event::Audited { .. } => AUDITED,
        Event::TooLate { .. } => LATE,
    }
}

/// The kind of what audits find.
pub(crate) const AUDITED: &str = "audited";

/// The kind of [`late`].
pub(crate) const LATE: &str = "too_late";

/// Why a deadline was missed: what the work took, what the phase gave it if that is known, and what helps.
pub(crate) fn late(phase: PhaseName, worked_ms: u64, gave_ms: Option<u64>) -> String {
    let seconds = |ms: u64| format!("{:.1} s", ms as f64 / 1000.0);
    let (work, helps) = match phase {
        PhaseName::Answer => ("sampling", "fewer prompts, completions, new_tokens_max"),
        _ => ("scoring", "fewer prompts, completions"),
    };
    let gave = gave_ms.map_or(String::new(), |ms| format!(", the phase {}", seconds(ms)));
    let took = seconds(worked_ms);
    format!("{} deadline: {work} took {took}{gave}; what helps: {helps}, more threads", phase.as_str())
}
