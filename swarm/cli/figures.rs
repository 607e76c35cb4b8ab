//! A round in figures: what its record says, from what the peers of this process told.

use std::collections::{BTreeMap, BTreeSet};

use judge::{CandidateId, GoldVerdicts, Label, Packs, PeerKey, Verdict};
use swarm::engine::Settled;
use tasks::{Item, PackId};

use crate::detail;
use crate::news::RoundNews;
use crate::record::{CritiqueRecord, FamilyRecord, GoldRecord, PackRecord, PeerRecord, SaidRecord};

/// Critiques of a round that are recorded in words.
const SAID_MAX: usize = 64;

/// Decided prompts and how many of them were right.
#[derive(Clone, Copy, Default)]
pub(crate) struct Votes {
    pub(crate) decided: usize,
    pub(crate) right: usize,
}

/// Labels of the peers that told, against the reference answers.
pub(crate) fn votes(told: &BTreeMap<PeerKey, RoundNews>, liars: &[PeerKey]) -> Votes {
    let mut votes = Votes::default();
    for (peer, news) in told.iter().filter(|(peer, _)| !liars.contains(peer)) {
        let settled = &news.settled;
        let prompts = settled.settlement.prompts.iter().zip(&settled.candidates).zip(&settled.schedule);
        for ((prompt, candidates), item) in prompts {
            let Some(Label::Decided { candidate, .. }) = prompt.labels.get(peer) else { continue };
            let (Some(gold), Some(answer)) = (item.gold(), candidates.get(candidate)) else { continue };
            votes.decided += 1;
            votes.right += usize::from(gold.matches(answer));
        }
    }
    votes
}

/// The round's verdicts against the reference answers (known here since the packs have them).
pub(crate) fn verdicts(settled: &Settled) -> GoldVerdicts {
    let mut counts = GoldVerdicts::default();
    for ((prompt, item), said) in settled.schedule.iter().enumerate().zip(&settled.critiques) {
        let Some(gold) = item.gold() else { continue };
        let gold = CandidateId::of(prompt as u16, gold.answer().as_str());
        said.iter().for_each(|(_, text)| counts.count(text.verdict, text.candidate == gold));
    }
    counts
}

/// `None` until both right and wrong candidates were judged.
pub(crate) fn verdict_accuracy(counts: &GoldVerdicts) -> Option<f64> {
    let both = counts.right > 0 && counts.wrong > 0;
    both.then(|| f64::from(1000 + counts.reward_permille()) / 2000.0)
}

/// What a round's record says of text critiques; `None` if there were none and gold tried none.
pub(crate) fn critiques(settled: &Settled, counts: &GoldVerdicts, trained: usize) -> Option<CritiqueRecord> {
    let count = settled.critiques.iter().map(Vec::len).sum();
    let tried = &settled.settlement.gold.critics;
    if count == 0 && tried.is_empty() {
        return None;
    }
    let share = |permille: i32| f64::from(permille) / 1000.0;
    let critics = &settled.settlement.next.critics;
    Some(CritiqueRecord {
        count,
        verdict_accuracy: verdict_accuracy(counts),
        rewards: tried.iter().map(|(peer, draw)| (peer.name(), share(draw.reward_permille()))).collect(),
        skill: critics.iter().map(|(peer, critic)| (peer.name(), share(critic.skill_permille()))).collect(),
        trained,
        said: said(settled),
    })
}

fn said(settled: &Settled) -> Vec<SaidRecord> {
    let all = settled.critiques.iter().zip(&settled.candidates).enumerate();
    let said = all.flat_map(|(prompt, (texts, candidates))| {
        texts.iter().map(move |(peer, text)| SaidRecord {
            critic: peer.name(),
            prompt,
            answer: candidates.get(&text.candidate).map(ToString::to_string).unwrap_or_default(),
            verdict: verdict_name(text.verdict).into(),
            reason: text.reason.clone(),
        })
    });
    said.take(SAID_MAX).collect()
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Right => "right",
        Verdict::Wrong => "wrong",
        Verdict::Unclear => "unclear",
    }
}

/// Decided labels and all labels of a settlement.
pub(crate) fn decided(settled: &Settled) -> (usize, usize) {
    let labels = settled.settlement.prompts.iter().flat_map(|prompt| prompt.labels.values());
    let (mut decided, mut all) = (0, 0);
    for label in labels {
        all += 1;
        decided += usize::from(matches!(label, Label::Decided { .. }));
    }
    (decided, all)
}

pub(crate) fn mean_share(settled: &std::sync::Arc<Settled>) -> Option<f64> {
    let shares: Vec<u16> = settled
        .settlement
        .prompts
        .iter()
        .filter_map(|p| p.consensus.as_ref())
        .map(|c| c.share_permille)
        .collect();
    let n = shares.len();
    (n > 0).then(|| shares.iter().map(|share| f64::from(*share)).sum::<f64>() / n as f64 / 1000.0)
}

pub(crate) fn phases(settled: &std::sync::Arc<Settled>) -> BTreeMap<String, u64> {
    settled.durations_ms.iter().map(|(phase, ms)| (phase.as_str().to_owned(), *ms)).collect()
}

/// How each member of the roster stands.
pub(crate) fn peers(settled: &Settled) -> BTreeMap<String, PeerRecord> {
    let settlement = &settled.settlement;
    let whole: f64 = settlement.weights.values().map(|weight| f64::from(*weight)).sum();
    let answered: BTreeSet<&PeerKey> = settled.answered.iter().collect();
    let peer = |peer: &PeerKey| {
        let weight = settlement.weights.get(peer).map_or(0.0, |weight| f64::from(*weight));
        let known = settlement.next.reputations.get(peer);
        let record = PeerRecord {
            weight: if whole > 0.0 { weight / whole } else { 0.0 },
            accuracy: known.map_or(0.0, |known| f64::from(known.accuracy_micro()) / 1e6),
            tried: known.map_or(0, |known| known.gold_ballots),
            liveness: known.map_or(1.0, |known| f64::from(known.liveness_permille) / 1000.0),
            answered: answered.contains(peer),
        };
        (peer.name(), record)
    };
    settled.roster.iter().map(peer).collect()
}

/// What the draw of gold said; `None` if nothing was drawn.
pub(crate) fn gold(settled: &Settled) -> Option<GoldRecord> {
    let gold = &settled.settlement.gold;
    let record = GoldRecord { drawn: gold.drawn.len(), right: gold.consensus_right };
    (record.drawn > 0).then_some(record)
}

/// Labels that teach nothing, by reason.
pub(crate) fn undecided_why(settled: &Settled) -> BTreeMap<String, u32> {
    let mut why = BTreeMap::new();
    for label in settled.settlement.prompts.iter().flat_map(|prompt| prompt.labels.values()) {
        if let Label::Undecided { reason, .. } = label {
            *why.entry(detail::why(*reason).to_owned()).or_default() += 1;
        }
    }
    why
}

/// How each family went: the vote's outcome once, samples over the honest peers that told.
pub(crate) fn families(
    settled: &Settled,
    told: &BTreeMap<PeerKey, RoundNews>,
    liars: &[PeerKey],
) -> BTreeMap<String, FamilyRecord> {
    let mut families: BTreeMap<String, FamilyRecord> = BTreeMap::new();
    let honest: Vec<&RoundNews> =
        told.iter().filter(|(peer, _)| !liars.contains(peer)).map(|(_, news)| news).collect();
    for (at, item) in settled.schedule.iter().enumerate() {
        let level = item.level();
        let first = FamilyRecord { levels: [level, level], ..FamilyRecord::default() };
        let family = families.entry(item.family().to_owned()).or_insert(first);
        family.levels = [family.levels[0].min(level), family.levels[1].max(level)];
        family.prompts += 1;
        let samples = honest.iter().filter(|news| news.sampled.round == settled.round);
        for own in samples.filter_map(|news| news.sampled.prompts.get(at)) {
            family.completions += own.answers.len();
            family.right += own.right;
        }
        if let Some(right) = winner_right(settled, at, item) {
            family.decided += 1;
            family.decided_right += usize::from(right);
        }
    }
    families
}

/// Whether the winner of a prompt that teaches somebody is right; `None` without one.
fn winner_right(settled: &Settled, at: usize, item: &Item) -> Option<bool> {
    let prompt = settled.settlement.prompts.get(at)?;
    let teaches = prompt.labels.values().any(|label| matches!(label, Label::Decided { .. }));
    let winner = prompt.consensus.as_ref().filter(|_| teaches)?.candidate;
    let answer = settled.candidates.get(at)?.get(&winner)?;
    Some(item.gold().is_some_and(|gold| gold.matches(answer)))
}

/// The packs that a swarm took in or votes on.
pub(crate) fn packs(packs: &Packs) -> Vec<PackRecord> {
    let accepted = packs.accepted.iter().map(|(key, pack)| PackRecord {
        id: PackId(key.0).to_string(),
        weight: pack.weight,
        accepted: true,
        state: format!("accepted for round {} and on", pack.round),
    });
    let open = packs.open.iter().map(|(key, pack)| {
        let wanted = pack.votes.values().filter(|wanted| **wanted).count();
        let (unwanted, proposer) = (pack.votes.len() - wanted, pack.proposer.name());
        PackRecord {
            id: PackId(key.0).to_string(),
            weight: pack.weight,
            accepted: false,
            state: format!(
                "under vote for {} rounds: {wanted} for it, {unwanted} against; by {proposer}",
                pack.rounds
            ),
        }
    });
    accepted.chain(open).collect()
}

/// How many levels of the families are open, by what the settlement starts the next round with.
pub(crate) fn open_levels(settled: &Settled) -> BTreeMap<String, u16> {
    let courses = &settled.settlement.next.courses;
    courses.iter().map(|(family, course)| (family.clone(), u16::from(course.rank) + 1)).collect()
}

/// Mean reward over everything that peers learn from.
pub(crate) fn reward(told: &BTreeMap<PeerKey, RoundNews>) -> Option<f64> {
    let rewards = told.values().flat_map(|news| news.rewards.iter().flatten());
    let (sum, n) = rewards.fold((0.0, 0_usize), |(sum, n), reward| (sum + f64::from(*reward), n + 1));
    (n > 0).then(|| sum / n as f64)
}

#[cfg(test)]
mod tests {
    use judge::{AcceptedPack, OpenPack, PackKey};

    use super::*;

    #[test]
    fn packs_say_how_the_vote_stands() {
        let peer = |byte: u8| PeerKey([byte; 32]);
        let votes = [(peer(1), true), (peer(2), true), (peer(3), false)].into();
        let open = OpenPack { proposer: peer(1), weight: 2, rounds: 4, votes };
        let packs = Packs {
            open: [(PackKey([7; 32]), open)].into(),
            accepted: [(PackKey([9; 32]), AcceptedPack { weight: 1, round: 12 })].into(),
        };
        let [accepted, open] = super::packs(&packs).try_into().unwrap();
        assert!(accepted.accepted && accepted.state == "accepted for round 12 and on", "{accepted:?}");
        assert!(open.state.starts_with("under vote for 4 rounds: 2 for it, 1 against; by "), "{open:?}");
        assert!(open.id.starts_with("b3:0707") && open.weight == 2 && !open.accepted, "{open:?}");
    }
}
