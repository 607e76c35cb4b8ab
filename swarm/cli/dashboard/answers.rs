//! The four questions that a look at a run is for: am I in, is it moving, is it learning, did I miss a deadline and why.

use super::draw::{TIGHT, duration, percent};
use super::view::Scene;
use crate::record::RoundRecord;

/// Rounds that "now" is the mean of.
const RECENT: usize = 5;
/// A change of accuracy that is more than noise.
const CHANGE: f64 = 0.03;

/// Whether an answer is good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Warn,
    Bad,
    Plain,
}

/// An answer to one of the questions.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) question: &'static str,
    /// Says the tone where there is no colour.
    pub(crate) mark: &'static str,
    pub(crate) tone: Tone,
    pub(crate) text: String,
}

/// The four of them.
pub(crate) fn all(scene: &Scene<'_>) -> [Answer; 4] {
    [am_i_in(scene), is_it_moving(scene), is_it_learning(scene), did_i_miss(scene)]
}

fn am_i_in(scene: &Scene<'_>) -> Answer {
    let me = scene.view.me();
    let last = scene.round();
    let standing = last.and_then(|round| round.peers.get(me));
    let (member, roster) = match &scene.view.status {
        Some(status) if scene.live() => (status.member, status.roster.len()),
        _ => (
            last.is_some_and(|round| round.roster.iter().any(|name| name == me)),
            last.map_or(0, |round| round.roster.len()),
        ),
    };
    let vote = standing.map_or(String::new(), |peer| format!(", {} of the vote", percent(Some(peer.weight))));
    let been = if scene.live() { "is" } else { "was" };
    let (mark, tone, text) = if member {
        ("✓", Tone::Good, format!("yes: one of {roster} in the roster{vote}"))
    } else if roster == 0 {
        let waits = scene.view.status.as_ref().filter(|_| scene.live());
        let waits = waits.map_or(String::new(), |status| format!(", {}", status.waiting));
        ("…", Tone::Warn, format!("not yet: no round has begun{waits}"))
    } else {
        (
            "✗",
            Tone::Bad,
            format!("no: {been} not among the {roster} of this round; newcomers enter with a coming one"),
        )
    };
    Answer { question: "in?", mark, tone, text }
}

fn is_it_moving(scene: &Scene<'_>) -> Answer {
    let rounds = scene.rounds();
    let recent = &rounds[rounds.len().saturating_sub(RECENT)..];
    let pace =
        recent.iter().map(|round| round.wall_ms as f64 / 1000.0).sum::<f64>() / recent.len().max(1) as f64;
    let pace = if recent.is_empty() { String::new() } else { format!("; a round takes {}", duration(pace)) };
    let answer = |mark, tone, text| Answer { question: "moving?", mark, tone, text };
    let Some(status) = scene.view.status.as_ref().filter(|_| scene.live()) else {
        let text = match (scene.round(), scene.back) {
            (None, _) => "no round has ended".into(),
            (Some(round), Some(_)) => past(round),
            (Some(round), None) => format!("ended after round {}{pace}", round.round),
        };
        return answer("■", Tone::Plain, text);
    };
    if let Some(silent) = scene.silent_s() {
        let text =
            format!("no sign of life for {silent} s: the process was killed or stopped, or its disk is full");
        return answer("✗", Tone::Bad, text);
    }
    if !status.lacks.is_empty() {
        return answer("✗", Tone::Bad, status.waiting.clone());
    }
    let left = status.deadline_ms.saturating_sub(scene.now_ms).div_ceil(1000);
    let waits = match status.awaited.as_slice() {
        [] => String::new(),
        names => format!(", waits {left}{TIGHT}s more for {}", names.join(", ")),
    };
    answer("✓", Tone::Good, format!("round {}, {}{waits}{pace}", status.round, status.phase))
}

/// A round that is looked back at.
fn past(round: &RoundRecord) -> String {
    let phases = ["answer", "reveal", "critique", "vote", "settle"].iter().filter_map(|phase| {
        Some(format!("{phase} {}", duration(*round.phases_ms.get(*phase)? as f64 / 1000.0)))
    });
    let phases: Vec<String> = phases.collect();
    format!("round {} took {}: {}", round.round, duration(round.wall_ms as f64 / 1000.0), phases.join(", "))
}

fn is_it_learning(scene: &Scene<'_>) -> Answer {
    let points = scene.figure(|round| round.sampled_accuracy);
    let mean =
        |points: &[(f64, f64)]| points.iter().map(|point| point.1).sum::<f64>() / points.len().max(1) as f64;
    let answer = |mark, tone, text| Answer { question: "learning?", mark, tone, text };
    let voters = scene.view.status.as_ref().filter(|_| scene.live()).map_or(0, |status| status.roster.len());
    if (1..judge::VOTERS_MIN).contains(&voters) {
        let text = format!(
            "not now: {voters} voters in the roster, {} are needed; waiting for more peers",
            judge::VOTERS_MIN
        );
        return answer("…", Tone::Warn, text);
    }
    if points.len() < 2 {
        return answer("…", Tone::Warn, "too early to tell".into());
    }
    let n = RECENT.min(points.len().div_ceil(2));
    let (first, last) = (mean(&points[..n]), mean(&points[points.len() - n..]));
    let held_out = match (&scene.view.report, scene.back) {
        (Some(report), None) => match (&report.before, &report.after) {
            (Some(before), Some(after)) => {
                format!("; held-out {} → {}", percent(Some(before.mean)), percent(Some(after.mean)))
            }
            _ => String::new(),
        },
        _ => String::new(),
    };
    let figures =
        format!("{} → {} of its answers right{held_out}", percent(Some(first)), percent(Some(last)));
    match last - first {
        change if change > CHANGE => answer("↗", Tone::Good, format!("yes: {figures}")),
        change if change < -CHANGE => answer("↘", Tone::Bad, format!("it gets worse: {figures}")),
        _ => answer("→", Tone::Warn, format!("level: {figures}")),
    }
}

fn did_i_miss(scene: &Scene<'_>) -> Answer {
    let late = scene.late();
    let answer = |mark, tone, text| Answer { question: "deadlines?", mark, tone, text };
    match late.last() {
        None => answer("✓", Tone::Good, "none missed".into()),
        Some(last) => {
            let recent = scene.round().is_none_or(|round| last.round + RECENT as u32 > round.round);
            let tone = if recent { Tone::Bad } else { Tone::Warn };
            answer("!", tone, format!("{} missed; round {}: {}", late.len(), last.round, last.text))
        }
    }
}
