//! Random rounds against a second, slow and literal implementation of the rule, and against nothing at all: whatever
//! strangers send, a settlement ends.
//!
//! The seed is printed. `JUDGE_SEED=<seed> cargo test -p murmur-judge chance` replays it.

use crate::*;
use std::collections::{BTreeMap, BTreeSet};

/// SplitMix64: enough for tests, the same everywhere.
struct Chance(u64);

impl Chance {
    /// A fresh seed for each run, unless one is given.
    fn new(test: &str) -> Chance {
        let given =
            std::env::var("JUDGE_SEED").ok().map(|seed| seed.parse().expect("JUDGE_SEED is a number"));
        let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_nanos() as u64);
        let seed = given.unwrap_or(clock);
        println!("replay: JUDGE_SEED={seed} cargo test -p murmur-judge {test}");
        Chance(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn peer(&mut self, n: u64) -> PeerKey {
        PeerKey([self.below(n) as u8; 32])
    }

    fn candidate(&mut self) -> CandidateId {
        CandidateId([self.below(5) as u8; 8])
    }

    /// A value from everywhere in the range, often from its ends.
    fn wild(&mut self) -> u64 {
        match self.below(4) {
            0 => u64::MAX,
            1 => self.below(3),
            2 => self.below(2_000_000),
            _ => self.next(),
        }
    }

    /// Most of six peers.
    fn peers(&mut self) -> Vec<PeerKey> {
        (0..6).map(|n| PeerKey([n; 32])).filter(|_| self.below(6) > 0).collect()
    }

    /// Votes of up to six peers, who are not all in the roster; `wild` ones break every rule.
    fn prompt(&mut self, wild: bool) -> PromptVotes {
        let mut prompt = PromptVotes::default();
        for peer in self.peers() {
            let count = self.below(5);
            let completions = (0..count).map(|_| self.coin().then(|| self.candidate())).collect();
            prompt.completions.insert(peer, completions);
        }
        for peer in self.peers() {
            let count = self.below(4);
            let most = if wild { 1 << 16 } else { 600 };
            let ballot = (0..count).map(|_| (self.candidate(), self.below(most) as u16)).collect();
            prompt.ballots.insert(peer, ballot);
        }
        for peer in self.peers() {
            let count = self.below(6);
            let critique = |c: &mut Chance| if wild { c.next() as i16 } else { -(c.below(5) as i16) * 40 };
            let critiques = (0..count).map(|_| (self.candidate(), critique(self))).collect();
            prompt.critiques.insert(peer, critiques);
        }
        prompt.gold = self.coin().then(|| self.candidate());
        prompt.stage = self.coin().then(|| self.stage());
        prompt
    }

    fn stage(&mut self) -> Stage {
        let family = if self.coin() { "gcd" } else { "lcm" }.to_owned();
        Stage { family, rank: self.below(4) as u8, ranks: self.below(4) as u8 }
    }

    fn pack_votes(&mut self) -> PackVotes {
        let quorum = self.coin().then(|| self.below(6) as u32);
        let mut votes = BTreeMap::new();
        for peer in self.peers() {
            let vote = |c: &mut Chance| PackVote {
                pack: PackKey([c.below(8) as u8; 32]),
                weight: c.below(3) as u32,
                accept: c.coin(),
            };
            votes.insert(peer, (0..self.below(6)).map(|_| vote(self)).collect());
        }
        PackVotes { quorum, votes }
    }

    fn round(&mut self, wild: bool) -> RoundVotes {
        let mut roster = self.peers();
        if wild && self.coin() {
            roster.reverse();
            roster.extend(roster.clone());
        }
        let mut conduct = BTreeMap::new();
        for peer in (0..6).map(|n| PeerKey([n; 32])) {
            let flags = [self.below(8) > 0, self.below(8) > 0, self.below(8) > 0];
            conduct.insert(peer, Conduct { committed: flags[0], revealed: flags[1], voted: flags[2] });
        }
        let mut gold_seed = [0; 32];
        gold_seed[..8].copy_from_slice(&self.next().to_le_bytes());
        let prompts = (0..self.below(4)).map(|_| self.prompt(wild)).collect();
        let packs = self.pack_votes();
        RoundVotes { roster, prompts, gold_seed, conduct, packs, ..RoundVotes::default() }
    }

    fn state(&mut self) -> State {
        let mut state = State { anchored: self.coin(), rounds: self.wild() as u32, ..State::default() };
        for _ in 0..self.below(7) {
            let reputation = Reputation {
                founder: self.coin(),
                gold_ballots: self.wild() as u32,
                successes_micro: self.wild(),
                trials_micro: self.wild(),
                liveness_permille: self.wild() as u32,
                critique_micro: self.wild() as i64,
                critique_trials_micro: self.wild(),
            };
            state.reputations.insert(self.peer(6), reputation);
        }
        for _ in 0..self.below(4) {
            let mass = (0..4).map(|_| (self.peer(6), self.wild() as u16)).collect();
            let ranking = (0..4).map(|_| (self.peer(6), self.wild() as i16)).collect();
            let (labels, labels_right) = (self.wild() as u32, self.wild() as u32);
            let pending = PendingPrompt {
                mass_permille: mass,
                ranking_permille: ranking,
                consensus_right: self.coin(),
                labels,
                labels_right,
            };
            state.pending.insert(self.wild() as u32, pending);
        }
        for _ in 0..self.below(3) {
            let course = Course {
                rank: self.wild() as u8,
                prompts: self.wild() as u32,
                success_permille: self.wild(),
            };
            state.courses.insert(self.stage().family, course);
        }
        state
    }

    fn rules(&mut self) -> Rules {
        let mut any = || self.wild() as u32;
        Rules {
            tau_permille: any(),
            supporters_min: any(),
            gold_share_permille: any(),
            weight_decay_permille: any(),
            cut_permille: any(),
            cut_after_ballots: any(),
            weight_cap_permille: any(),
            probation_ballots: any(),
            withheld_permille: any(),
            missed_permille: any(),
            recovery_permille: any(),
            audit: crate::audits::AuditRules::default(),
            curriculum: Some(CurriculumRules {
                prompts: any(),
                raise_permille: any(),
                lower_permille: any(),
            }),
        }
    }
}

/// The winner as the rule says it, straight: everybody but `except` is all there is.
fn plainly(
    weights: &BTreeMap<PeerKey, u32>,
    votes: &PromptVotes,
    except: Option<PeerKey>,
) -> Option<Consensus> {
    let mut authors: BTreeMap<CandidateId, BTreeSet<PeerKey>> = BTreeMap::new();
    for (peer, completions) in votes.completions.iter().filter(|(peer, _)| weights.contains_key(*peer)) {
        for candidate in completions.iter().flatten() {
            authors.entry(*candidate).or_default().insert(*peer);
        }
    }
    let others: BTreeMap<PeerKey, u32> =
        weights.iter().filter(|(p, w)| Some(**p) != except && **w > 0).map(|(p, w)| (*p, *w)).collect();
    let ballot = |peer: &PeerKey, candidate: &CandidateId| {
        let ballot = votes.ballots.get(peer)?;
        (ballot.values().map(|p| u32::from(*p)).sum::<u32>() <= 1000)
            .then_some(u128::from(*ballot.get(candidate)?))
    };
    let may = |peer: &PeerKey, candidate: &CandidateId| {
        authors.get(candidate).is_some_and(|authors| authors.iter().any(|author| author != peer))
    };
    let critics: Vec<(&PeerKey, &u32)> = others
        .iter()
        .filter(|(peer, _)| votes.critiques.get(*peer).is_some_and(|c| c.keys().any(|c| may(peer, c))))
        .collect();
    let critiques = |candidate: &CandidateId| {
        let mut all = Vec::new();
        for (peer, weight) in critics.iter().filter(|(peer, _)| may(peer, candidate)) {
            let critique = votes.critiques[*peer].get(candidate).copied().unwrap_or(-4000).clamp(-4000, 0);
            all.extend(vec![critique; **weight as usize]); // a copy a unit of weight
        }
        all.sort_unstable();
        all
    };
    let heard =
        critics.iter().map(|(_, w)| **w * 2).sum::<u32>() >= others.values().sum() && !critics.is_empty();
    let mut best: Option<(u128, Consensus)> = None;
    for candidate in authors.keys().rev() {
        let mass: u128 = others.iter().map(|(p, w)| u128::from(*w) * ballot(p, candidate).unwrap_or(0)).sum();
        let supporters = others.keys().filter(|p| ballot(p, candidate).unwrap_or(0) > 0).count();
        let all = critiques(candidate);
        let median = if !heard { 0 } else { *all.get(all.len().saturating_sub(1) / 2).unwrap_or(&-4000) };
        let score = mass * u128::from(exp::e(median));
        if mass > 0 && best.is_none_or(|(highest, _)| score >= highest) {
            let whole: u128 = others.values().map(|w| u128::from(*w)).sum();
            let share_permille = (mass * 1000 / (whole * 1000)) as u16;
            best = Some((
                score,
                Consensus { candidate: *candidate, share_permille, supporters: supporters as u32 },
            ));
        }
    }
    best.map(|(_, winner)| winner)
}

/// A state in which these peers have these weights, in units of one millionth so that the slow median can copy.
fn known(weights: &BTreeMap<PeerKey, u32>) -> State {
    let mut state = State::founded_by(&weights.keys().copied().collect::<Vec<_>>());
    for (peer, weight) in weights {
        let r = state.reputations.get_mut(peer).unwrap();
        (r.successes_micro, r.trials_micro) = (u64::from(*weight), u64::from(MICRO));
    }
    state.anchored = true;
    state
}

#[test]
fn labels_are_what_a_literal_reading_of_the_rule_gives() {
    let mut chance = Chance::new("literal");
    let rules = Rules { weight_cap_permille: 1_000_000, ..Rules::default() };
    let (mut decided, mut undecided) = (0, 0);
    for _ in 0..3000 {
        let mut votes = chance.round(false);
        votes.conduct.clear();
        let given: BTreeMap<PeerKey, u32> =
            votes.roster.iter().map(|peer| (*peer, chance.below(5) as u32)).collect();
        let settled = settle(&rules, &known(&given), &votes);
        // The ratio to the best is the same; equal weights stand in for nobody being right.
        let none = given.values().all(|w| *w == 0);
        let given: BTreeMap<PeerKey, u32> =
            given.into_iter().map(|(p, w)| (p, if none { 1 } else { w })).collect();
        let scale = given.values().max().copied().unwrap_or(1);
        for (peer, weight) in &given {
            assert_eq!(settled.weights[peer], weight * MICRO / scale, "weights of {given:?}");
        }
        if !MICRO.is_multiple_of(scale) {
            continue; // thirds are rounded, which the literal copies would not show
        }
        for (prompt, found) in votes.prompts.iter().zip(&settled.prompts) {
            assert_eq!(found.consensus, plainly(&given, prompt, None), "{given:?} {prompt:#?}");
            for (peer, label) in &found.labels {
                let winner = plainly(&given, prompt, Some(*peer));
                let shown = match label {
                    Label::Decided { candidate, share_permille, supporters } => {
                        assert!(*share_permille >= 250 && *supporters >= 2);
                        decided += 1;
                        (Some(*candidate), *share_permille, *supporters)
                    }
                    Label::Undecided { best, share_permille, supporters, .. } => {
                        undecided += 1;
                        (*best, *share_permille, *supporters)
                    }
                };
                let plain =
                    winner.map_or((None, 0, 0), |w| (Some(w.candidate), w.share_permille, w.supporters));
                assert_eq!(shown, plain, "label of {peer} {given:?} {prompt:#?}");
            }
        }
    }
    assert!(decided > 300 && undecided > 300, "both happen: {decided} {undecided}");
}

#[test]
fn anything_settles() {
    let mut chance = Chance::new("anything");
    for _ in 0..2000 {
        let rules = chance.rules();
        let mut state = chance.state();
        for _ in 0..3 {
            let votes = chance.round(true);
            let settled = settle(&rules, &state, &votes);
            assert_eq!(settled, settle(&rules, &state, &votes));
            assert_eq!(settled.prompts.len(), votes.prompts.len());
            assert!(settled.weights.values().all(|weight| *weight <= MICRO));
            let roster: BTreeSet<&PeerKey> = votes.roster.iter().collect();
            assert!(settled.weights.keys().eq(roster.iter().copied()));
            for (prompt, votes) in settled.prompts.iter().zip(&votes.prompts) {
                assert!(prompt.labels.keys().eq(roster.iter().copied()));
                for (peer, rewards) in &prompt.rewards {
                    assert_eq!(rewards.len(), votes.completions[peer].len());
                }
                assert!(prompt.labels.values().all(|label| label.share_permille() <= 1000));
            }
            let wire = rmp_serde::to_vec_named(&settled).unwrap();
            assert_eq!(rmp_serde::from_slice::<Settlement>(&wire).unwrap(), settled);
            let text = serde_json::to_string(&settled).unwrap();
            assert_eq!(serde_json::from_str::<Settlement>(&text).unwrap(), settled);
            state = settled.next;
        }
        for r in state.reputations.values() {
            assert!(r.accuracy_micro() <= MICRO && r.critique_permille().abs() <= 1000);
        }
    }
}

#[test]
fn what_one_peer_sends_never_moves_its_own_label() {
    let mut chance = Chance::new("own_label");
    for _ in 0..2000 {
        let mut votes = chance.round(false);
        let Some(peer) = votes.roster.first().copied() else { continue };
        let before = settle(&Rules::default(), &State::founded_by(&votes.roster), &votes);
        let other = chance.round(true);
        for (prompt, other) in votes.prompts.iter_mut().zip(other.prompts) {
            // Its completions stay: they decide which answers exist at all.
            prompt.ballots.remove(&peer);
            prompt.critiques.remove(&peer);
            prompt.ballots.extend(other.ballots.into_iter().take(1).map(|(_, ballot)| (peer, ballot)));
            prompt
                .critiques
                .extend(other.critiques.into_iter().take(1).map(|(_, critiques)| (peer, critiques)));
        }
        let after = settle(&Rules::default(), &State::founded_by(&votes.roster), &votes);
        for (before, after) in before.prompts.iter().zip(&after.prompts) {
            assert_eq!(before.labels[&peer], after.labels[&peer]);
        }
    }
}

#[test]
fn a_full_swarm_settles_in_time() {
    // 256 peers, 8 different answers each, everybody criticises everything: the largest round a manifest allows
    // would be 24 of these. Measured in steps by the shape of the code, not by the clock; this only has to end.
    let peers: Vec<PeerKey> = (0..=255).map(|n| PeerKey([n; 32])).collect();
    let candidate = |peer: u64, n: u64| CandidateId((peer * 8 + n).to_be_bytes());
    let mut prompt = PromptVotes::default();
    for (n, peer) in (0..).zip(&peers) {
        let completions: Vec<_> = (0..8).map(|k| Some(candidate(n, k))).collect();
        prompt.ballots.insert(*peer, ballot_from_completions(&completions));
        prompt.completions.insert(*peer, completions);
        let critiques = (0..2048).map(|c| (candidate(c / 8, c % 8), -((c * n % 4001) as i16)));
        prompt.critiques.insert(*peer, critiques.collect());
    }
    let votes = RoundVotes { roster: peers, prompts: vec![prompt], ..RoundVotes::default() };
    let settled = settle(&Rules::default(), &State::default(), &votes);
    assert_eq!((settled.labels_decided, settled.labels_undecided), (0, 256));
}
