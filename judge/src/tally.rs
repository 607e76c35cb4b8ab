//! Counting one prompt: scores, winners, labels.
//!
//! A label leaves one peer out, so a roster of n peers needs n counts besides the common one. Each count works on
//! what is shared: the mass of a candidate less the left-out peer's part, and the median of sorted critiques less
//! one entry. That keeps a prompt at about n × candidates × log n steps instead of n² × candidates.

use crate::exp;
use crate::key::{CandidateId, PeerKey};
use crate::rules::{Rules, VOTERS_MIN};
use crate::settlement::{Consensus, Label, Reason, Void, VoidReason};
use crate::votes::{BALLOT_FULL, CRITIQUE_MIN, PromptVotes};
use std::collections::{BTreeMap, BTreeSet};

/// The roster of a round with its weights, in roster order.
pub(crate) struct Electorate {
    /// Position of each member.
    pub(crate) seats: BTreeMap<PeerKey, usize>,
    /// Weight by position, at most 10⁶.
    pub(crate) weights: Vec<u32>,
}

impl Electorate {
    pub(crate) fn new(weights: &BTreeMap<PeerKey, u32>) -> Electorate {
        Electorate {
            seats: weights.keys().enumerate().map(|(seat, peer)| (*peer, seat)).collect(),
            weights: weights.values().copied().collect(),
        }
    }

    fn weight(&self, seat: usize) -> u32 {
        self.weights.get(seat).copied().unwrap_or(0)
    }
}

/// One prompt's valid votes.
pub(crate) struct Tally<'a> {
    electorate: &'a Electorate,
    /// Who proposed what.
    authors: BTreeMap<CandidateId, BTreeSet<usize>>,
    columns: BTreeMap<CandidateId, Column>,
    /// Seats of non-zero weight with a critique that counts on any candidate.
    critics: BTreeSet<usize>,
    /// Their weight.
    critics_weight: u128,
    weight: u128,
    pub(crate) voids: Vec<Void>,
}

/// The votes on one candidate.
#[derive(Default)]
struct Column {
    /// Σ weight × ballot. Fewer than 2⁵⁹ peers fit an address space at 32 bytes each, a weight is below 2²⁰ and a
    /// ballot below 2¹⁰: below 2⁸⁹, and below 2¹²² once multiplied with E.
    mass: u128,
    /// Ballot of each supporter: non-zero weight, non-zero permille.
    supporters: BTreeMap<usize, u16>,
    critics: Critics,
}

/// Critiques of one candidate by critics of non-zero weight, for weighted medians with one critic left out.
///
/// A critic who speaks on other candidates of the prompt but not on this one counts as its worst critique; or one
/// accomplice could praise a text that honest policies cannot even read.
#[derive(Default)]
struct Critics {
    /// (critique, seat), sorted.
    sorted: Vec<(i16, usize)>,
    /// Σ weight up to and including each entry.
    running: Vec<u128>,
    /// Where each critic's entry is.
    place: BTreeMap<usize, usize>,
    /// Σ weight of the critics who could have spoken and did not.
    silent: u128,
}

impl Critics {
    /// `whole` is the weight of all critics who may speak on this candidate.
    fn seal(&mut self, electorate: &Electorate, whole: u128) {
        self.sorted.sort_unstable();
        let mut sum = 0;
        for (place, (_, seat)) in self.sorted.iter().enumerate() {
            sum += u128::from(electorate.weight(*seat));
            self.running.push(sum);
            self.place.insert(*seat, place);
        }
        self.silent = whole.saturating_sub(sum);
    }

    /// The lower weighted median: the lowest critique such that it and those below it carry at least half of the
    /// weight. A tie between two values so goes to the more sceptical one. Nobody who may speak: the worst.
    ///
    /// `gone` is the weight of a left-out critic, 0 if that one may not speak on this candidate anyway.
    fn median(&self, except: Option<usize>, gone: u128) -> i16 {
        let place = except.and_then(|seat| self.place.get(&seat)).copied();
        let silent = self.silent.saturating_sub(if place.is_none() { gone } else { 0 });
        let upto = |at: usize| {
            let running = at.checked_sub(1).and_then(|last| self.running.get(last)).copied().unwrap_or(0);
            silent + running.saturating_sub(if place.is_some_and(|place| at > place) { gone } else { 0 })
        };
        let whole = upto(self.running.len());
        if silent * 2 >= whole {
            return CRITIQUE_MIN;
        }
        // The left-out entry adds nothing to what stands before it, so the search never stops at it.
        let (mut low, mut high) = (0, self.running.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if upto(middle + 1) * 2 >= whole { high = middle } else { low = middle + 1 }
        }
        self.sorted.get(low).map_or(CRITIQUE_MIN, |(critique, _)| *critique)
    }
}

impl<'a> Tally<'a> {
    pub(crate) fn new(electorate: &'a Electorate, votes: &PromptVotes) -> Tally<'a> {
        let mut authors: BTreeMap<CandidateId, BTreeSet<usize>> = BTreeMap::new();
        for (peer, completions) in &votes.completions {
            let Some(seat) = electorate.seats.get(peer) else { continue };
            for candidate in completions.iter().flatten() {
                authors.entry(*candidate).or_default().insert(*seat);
            }
        }
        let mut tally = Tally {
            electorate,
            columns: authors.keys().map(|candidate| (*candidate, Column::default())).collect(),
            authors,
            critics: BTreeSet::new(),
            critics_weight: 0,
            weight: electorate.weights.iter().map(|w| u128::from(*w)).sum(),
            voids: Vec::new(),
        };
        for (peer, ballot) in &votes.ballots {
            tally.cast(*peer, ballot);
        }
        for (peer, critiques) in &votes.critiques {
            tally.hear(*peer, critiques);
        }
        tally.critics_weight = tally.critics.iter().map(|seat| u128::from(electorate.weight(*seat))).sum();
        for (candidate, column) in &mut tally.columns {
            // The only author of an answer may not speak on it.
            let alone = sole(tally.authors.get(candidate)).filter(|seat| tally.critics.contains(seat));
            let mute = alone.map_or(0, |seat| u128::from(electorate.weight(seat)));
            column.critics.seal(electorate, tally.critics_weight.saturating_sub(mute));
        }
        tally
    }

    fn cast(&mut self, peer: PeerKey, ballot: &BTreeMap<CandidateId, u16>) {
        let Some(seat) = self.electorate.seats.get(&peer).copied() else {
            self.voids.push(Void { peer, reason: VoidReason::NotInRoster });
            return;
        };
        if overfull(ballot) {
            self.voids.push(Void { peer, reason: VoidReason::Overfull });
            return;
        }
        if ballot.keys().any(|candidate| !self.columns.contains_key(candidate)) {
            self.voids.push(Void { peer, reason: VoidReason::UnknownCandidate });
        }
        let weight = self.electorate.weight(seat);
        for (candidate, permille) in ballot {
            let Some(column) = self.columns.get_mut(candidate) else { continue };
            if weight > 0 && *permille > 0 {
                column.mass += u128::from(weight) * u128::from(*permille);
                column.supporters.insert(seat, *permille);
            }
        }
    }

    fn hear(&mut self, peer: PeerKey, critiques: &BTreeMap<CandidateId, i16>) {
        let Some(seat) = self.electorate.seats.get(&peer).copied() else { return };
        if self.electorate.weight(seat) == 0 {
            return;
        }
        for (candidate, critique) in critiques {
            if !self.by_another(*candidate, seat) {
                continue;
            }
            let Some(column) = self.columns.get_mut(candidate) else { continue };
            column.critics.sorted.push(((*critique).clamp(CRITIQUE_MIN, 0), seat));
            self.critics.insert(seat);
        }
    }

    /// Whether somebody other than `seat` proposed the candidate: nobody's praise of its own answer counts.
    fn by_another(&self, candidate: CandidateId, seat: usize) -> bool {
        let authors = self.authors.get(&candidate);
        authors.is_some() && sole(authors) != Some(seat)
    }

    pub(crate) fn candidates(&self) -> usize {
        self.columns.len()
    }

    /// The candidate with the highest score over everybody but `except`; among equals the lowest id.
    fn winner(&self, except: Option<usize>) -> Option<Consensus> {
        let own_weight = except.map_or(0, |seat| u128::from(self.electorate.weight(seat)));
        let own_voice = except.filter(|seat| self.critics.contains(seat)).map_or(0, |_| own_weight);
        let whole = self.weight.saturating_sub(own_weight);
        // Critiques need half of the weight behind them, or one liar who criticises while everybody else is late
        // would decide alone. Below that, E is the same for every candidate.
        let heard = self.critics_weight.saturating_sub(own_voice) * 2 >= whole && !self.critics.is_empty();
        let mut best: Option<(u128, Consensus)> = None;
        for (candidate, column) in &self.columns {
            let own_ballot = except.and_then(|seat| column.supporters.get(&seat));
            let mass = column.mass.saturating_sub(own_weight * u128::from(own_ballot.copied().unwrap_or(0)));
            if mass == 0 {
                continue;
            }
            let may_speak = except.is_some_and(|seat| self.by_another(*candidate, seat));
            let gone = if may_speak { own_voice } else { 0 };
            let critique = if heard { column.critics.median(except, gone) } else { 0 };
            let score = mass * u128::from(exp::e(critique));
            if best.is_none_or(|(highest, _)| score > highest) {
                let supporters = column.supporters.len() - usize::from(own_ballot.is_some());
                let found = Consensus {
                    candidate: *candidate,
                    // mass <= 1000 whole, and whole > 0 because mass is: at most 1000.
                    share_permille: u16::try_from(mass / whole.max(1)).unwrap_or(BALLOT_FULL),
                    supporters: u32::try_from(supporters).unwrap_or(u32::MAX),
                };
                best = Some((score, found));
            }
        }
        best.map(|(_, found)| found)
    }

    /// The answer shown as settled.
    pub(crate) fn consensus(&self) -> Option<Consensus> {
        self.winner(None)
    }

    /// What everybody else's votes say the peer in this seat should have answered.
    pub(crate) fn label(&self, rules: &Rules, seat: usize) -> Label {
        let voters = self.electorate.weights.iter().filter(|w| **w > 0).count();
        judge(rules, self.winner(Some(seat)), rules.supporters_min, voters < VOTERS_MIN)
    }

    /// What a ballot puts on a candidate, in permille; 0 if the ballot or the entry is void.
    pub(crate) fn mass_permille(&self, ballot: &BTreeMap<CandidateId, u16>, candidate: CandidateId) -> u16 {
        let permille = ballot.get(&candidate).copied().unwrap_or(0);
        if self.columns.contains_key(&candidate) && !overfull(ballot) { permille } else { 0 }
    }

    /// How well a peer's critiques rank the right candidate over the wrong ones: wins less losses over all pairs
    /// of the right candidate and a wrong one that it scored both, -1000 to 1000; `None` without such a pair.
    pub(crate) fn ranking(
        &self,
        seat: usize,
        critiques: &BTreeMap<CandidateId, i16>,
        gold: CandidateId,
    ) -> Option<i16> {
        let score = |candidate: CandidateId| {
            let critique = critiques.get(&candidate).filter(|_| self.by_another(candidate, seat))?;
            Some((*critique).clamp(CRITIQUE_MIN, 0))
        };
        let right = score(gold)?;
        let (mut sum, mut pairs) = (0_i64, 0_i64);
        for wrong in critiques.keys().filter(|c| **c != gold).filter_map(|c| score(*c)) {
            // At most one step a pair; 2^63 candidates fit no memory.
            sum += i64::from(right > wrong) - i64::from(right < wrong);
            pairs += 1;
        }
        (pairs > 0).then(|| i16::try_from(sum.saturating_mul(1000) / pairs).unwrap_or(0)) // within ±1000
    }
}

/// The only author of an answer, if it has only one.
fn sole(authors: Option<&BTreeSet<usize>>) -> Option<usize> {
    authors.filter(|authors| authors.len() == 1)?.first().copied()
}

fn overfull(ballot: &BTreeMap<CandidateId, u16>) -> bool {
    // Below 2^16 times the number of entries in memory.
    ballot.values().map(|permille| u128::from(*permille)).sum::<u128>() > u128::from(BALLOT_FULL)
}

/// Applies the tests that turn a winner into a label.
fn judge(rules: &Rules, winner: Option<Consensus>, supporters_min: u32, too_few_voters: bool) -> Label {
    let (share_permille, supporters) = winner.map_or((0, 0), |w| (w.share_permille, w.supporters));
    let best = winner.map(|w| w.candidate);
    let undecided = |reason| Label::Undecided { best, share_permille, supporters, reason };
    match best {
        _ if too_few_voters => undecided(Reason::TooFewVoters),
        None => undecided(Reason::NoBallots),
        Some(_) if u32::from(share_permille) < rules.tau_permille => undecided(Reason::BelowGate),
        Some(_) if supporters < supporters_min => undecided(Reason::TooFewSupporters),
        Some(candidate) => Label::Decided { candidate, share_permille, supporters },
    }
}

/// The label a peer would give itself: the heaviest candidate of its own ballot, behind the same gate.
///
/// The isolated arm of an experiment trains on this. There are no critiques and no second supporter; the lowest id
/// wins a tie, and an overfull ballot is void, as in the vote.
///
/// ```
/// # use judge::{CandidateId, Rules, ballot_from_completions, own_majority};
/// let [seven, nine] = ["7", "9"].map(|answer| CandidateId::of(0, answer));
/// let ballot = ballot_from_completions(&[Some(seven), Some(seven), Some(nine), None]);
/// let label = own_majority(&Rules::default(), &ballot);
/// assert_eq!((label.candidate(), label.share_permille()), (Some(seven), 500));
///
/// let tie = ballot_from_completions(&[Some(seven), Some(nine)]);
/// assert_eq!(own_majority(&Rules::default(), &tie).candidate(), Some(seven.min(nine)));
/// ```
pub fn own_majority(rules: &Rules, ballot: &BTreeMap<CandidateId, u16>) -> Label {
    let mut winner: Option<Consensus> = None;
    for (candidate, permille) in ballot.iter().filter(|_| !overfull(ballot)) {
        if *permille > winner.map_or(0, |best| best.share_permille) {
            winner = Some(Consensus { candidate: *candidate, share_permille: *permille, supporters: 1 });
        }
    }
    judge(rules, winner, 0, false)
}
