//! What verdicts earn, through whole settlements: nothing for saying always the same, something for telling right
//! from wrong, and no vote weight for either.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use judge::{
    CandidateId, GoldVerdicts, PeerKey, PromptVotes, RoundVotes, Rules, Settlement, State, Verdict,
    VoidReason, assign, ballot_from_completions, settle,
};
use std::collections::{BTreeMap, BTreeSet};

/// SplitMix64 with a fixed seed: nothing here may fail by chance.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

const PEERS: u8 = 4;

fn peer(n: u8) -> PeerKey {
    PeerKey([n; 32])
}

fn peers() -> Vec<PeerKey> {
    (1..=PEERS).map(peer).collect()
}

/// A round of eight prompts in which everybody answers right with one chance in three, and critics are assigned.
fn round(dice: &mut Dice, critics: u16) -> RoundVotes {
    let prompt = |index: u16, dice: &mut Dice| {
        let mut prompt = PromptVotes { gold: Some(CandidateId::of(index, "0")), ..PromptVotes::default() };
        for peer in peers() {
            let word = |dice: &mut Dice| if dice.below(3) == 0 { 0 } else { 1 + dice.below(6) };
            let given: Vec<_> =
                (0..3).map(|_| Some(CandidateId::of(index, &word(dice).to_string()))).collect();
            prompt.ballots.insert(peer, ballot_from_completions(&given));
            prompt.completions.insert(peer, given);
        }
        prompt
    };
    let mut votes = RoundVotes { roster: peers(), ..RoundVotes::default() };
    votes.prompts = (0..8).map(|index| prompt(index, dice)).collect();
    votes.gold_seed[0] = dice.below(256) as u8;
    let nonces = peers().into_iter().map(|peer| (peer, [dice.below(256) as u8; 32])).collect();
    let assignment = assign(&votes.gold_seed, &nonces, critics, 1000, &votes.prompts);
    for (prompt, assigned) in votes.prompts.iter_mut().zip(assignment) {
        prompt.assigned = assigned;
    }
    votes
}

/// Everybody says what `of` makes of the truth.
fn speak(votes: &mut RoundVotes, mut of: impl FnMut(u8, bool) -> Option<Verdict>) {
    for prompt in &mut votes.prompts {
        for (peer, assigned) in &prompt.assigned {
            let verdicts = assigned.iter().filter_map(|candidate| {
                of(peer.0[0], Some(*candidate) == prompt.gold).map(|verdict| (*candidate, verdict))
            });
            prompt.verdicts.insert(*peer, verdicts.collect());
        }
    }
}

fn truth(right: bool) -> Verdict {
    if right { Verdict::Right } else { Verdict::Wrong }
}

/// Peer 1 knows, 2 says right, 3 says wrong, 4 turns the truth round.
fn character(peer: u8, right: bool) -> Option<Verdict> {
    Some(match peer {
        1 => truth(right),
        2 => Verdict::Right,
        3 => Verdict::Wrong,
        _ => truth(!right),
    })
}

#[test]
fn always_right_and_always_wrong_earn_exactly_nothing_and_knowing_earns_everything() {
    let mut dice = Dice(1);
    let (mut state, mut both_kinds) = (State::founded_by(&peers()), 0);
    for _ in 0..40 {
        let mut votes = round(&mut dice, 1);
        speak(&mut votes, character);
        let settled = settle(&Rules::default(), &state, &votes);
        for (key, verdicts) in &settled.gold.critics {
            let both = verdicts.right > 0 && verdicts.wrong > 0;
            let full = if both { 1000 } else { 0 };
            let expected = [0, full, 0, 0, -full][usize::from(key.0[0])];
            assert_eq!(verdicts.reward_permille(), expected, "{key} {verdicts:?}");
            both_kinds += u32::from(both);
        }
        state = settled.next;
        let skill: Vec<i32> = state.critics.values().map(|critic| critic.skill_permille()).collect();
        assert!(skill.is_empty() || state.rounds < 8 || skill == [1000, 0, 0, -1000], "{skill:?}");
    }
    assert!(both_kinds > 40, "the draws try both kinds of candidate: {both_kinds}");
}

#[test]
fn guessing_at_any_rate_earns_nothing_in_the_mean() {
    for rate in [1, 5, 9] {
        let (mut dice, mut sum) = (Dice(rate), GoldVerdicts::default());
        for n in 0..100_000 {
            let guess = truth(dice.below(10) < rate);
            sum.count(guess, n % 7 == 0);
        }
        // Standard deviation 4 permille at most.
        assert!(sum.reward_permille().abs() <= 12, "{rate}: {}", sum.reward_permille());
    }
}

#[test]
fn the_rewards_of_single_verdicts_cancel_exactly_where_all_are_alike() {
    for (right, wrong) in [(1, 1), (1, 7), (5, 3), (0, 4), (13, 0), (1000, 1)] {
        for verdict in [Verdict::Right, Verdict::Wrong, Verdict::Unclear] {
            let mut draw = GoldVerdicts::default();
            (0..right).for_each(|_| draw.count(verdict, true));
            (0..wrong).for_each(|_| draw.count(verdict, false));
            let (of_right, denominator) = draw.reward(verdict, true);
            let (of_wrong, same) = draw.reward(verdict, false);
            assert_eq!(denominator, same);
            assert_eq!(of_right * right + of_wrong * wrong, 0, "{right} {wrong} {verdict:?}");
            assert!(of_right.abs() <= i64::from(denominator) && of_wrong.abs() <= i64::from(denominator));
            assert_eq!(draw.reward_permille(), 0);
        }
    }
    // One right among seven wrong: the rare kind pays in full, the common one a seventh of it.
    let draw = GoldVerdicts { right: 1, wrong: 7, ..GoldVerdicts::default() };
    assert_eq!(draw.reward(Verdict::Right, true), (7, 7));
    assert_eq!(draw.reward(Verdict::Wrong, false), (1, 7));
    assert_eq!(draw.reward(Verdict::Right, false), (-1, 7));
}

/// Two settlements: the second one draws the gold of the first; all of it.
fn drawn(votes: &RoundVotes) -> Settlement {
    let rules = Rules { gold_share_permille: 1000, ..Rules::default() };
    let first = settle(&rules, &State::founded_by(&peers()), votes);
    settle(&rules, &first.next, &RoundVotes { roster: peers(), ..RoundVotes::default() })
}

fn assigned(votes: &RoundVotes, peer: PeerKey, right: bool) -> u32 {
    let of = |prompt: &PromptVotes| {
        let list = prompt.assigned.get(&peer).into_iter().flatten();
        list.filter(|candidate| (prompt.gold == Some(**candidate)) == right).count() as u32
    };
    votes.prompts.iter().map(of).sum()
}

#[test]
fn silence_on_an_assigned_candidate_is_a_trial_without_a_hit() {
    let mut votes = round(&mut Dice(7), 2);
    // Peer 1 speaks only of the right ones, of which it is sure; peer 2 not at all.
    speak(&mut votes, |peer, right| match peer {
        1 => right.then_some(Verdict::Right),
        2 => None,
        _ => Some(truth(right)),
    });
    let critics = drawn(&votes).gold.critics;
    let (right, wrong) = (assigned(&votes, peer(1), true), assigned(&votes, peer(1), false));
    let half = GoldVerdicts { right, right_sum: right as i32, wrong, wrong_sum: 0 };
    assert_eq!((critics[&peer(1)], half.reward_permille()), (half, 500));
    assert!(!critics.contains_key(&peer(2)), "who never spoke is not tried");
    assert_eq!(critics[&peer(3)].reward_permille(), 1000);
}

#[test]
fn verdicts_on_what_was_not_assigned_are_void_and_counted() {
    let mut votes = round(&mut Dice(7), 1);
    speak(&mut votes, |_, right| Some(truth(right)));
    let honest = drawn(&votes);
    let own = votes.prompts[0].completions[&peer(1)][0].unwrap();
    assert!(votes.prompts[0].assigned.get(&peer(1)).is_none_or(|list| !list.contains(&own)));
    let unknown = CandidateId::of(0, "nobody said this");
    votes.prompts[0]
        .verdicts
        .entry(peer(1))
        .or_default()
        .extend([(own, Verdict::Right), (unknown, Verdict::Wrong)]);
    votes.prompts[1].verdicts.insert(peer(9), BTreeMap::from([(unknown, Verdict::Wrong)]));
    let settled = settle(&Rules::default(), &State::founded_by(&peers()), &votes);
    assert_eq!(settled.voids, BTreeMap::from([(VoidReason::UnassignedVerdict, 2)]));
    assert_eq!(settled.prompts[0].voids[0].peer, peer(1));
    assert_eq!(drawn(&votes).gold.critics, honest.gold.critics);
}

#[test]
fn verdicts_move_no_label_no_reward_and_no_weight() {
    let mut dice = Dice(3);
    let (mut with, mut without) = (State::founded_by(&peers()), State::founded_by(&peers()));
    for _ in 0..12 {
        let mut votes = round(&mut dice, 2);
        speak(&mut votes, character);
        let mut mute = votes.clone();
        mute.prompts.iter_mut().for_each(|prompt| {
            prompt.assigned.clear();
            prompt.verdicts.clear();
        });
        let spoken = settle(&Rules::default(), &with, &votes);
        let unspoken = settle(&Rules::default(), &without, &mute);
        assert_eq!((&spoken.prompts, &spoken.weights), (&unspoken.prompts, &unspoken.weights));
        assert_eq!(spoken.next.reputations, unspoken.next.reputations);
        assert!(unspoken.next.critics.is_empty() && unspoken.gold.critics.is_empty());
        (with, without) = (spoken.next, unspoken.next);
    }
    assert_eq!(with.critics.len(), 4);
    // A state without critics has the bytes that it had before there were any.
    let text = serde_json::to_string(&without).unwrap();
    assert!(!text.contains("critics") && !text.contains("verdicts"), "{text}");
    let wire = rmp_serde::to_vec_named(&with).unwrap();
    assert_eq!(rmp_serde::from_slice::<State>(&wire).unwrap(), with);
}

#[test]
fn any_verdicts_settle() {
    let mut dice = Dice(11);
    let mut state = State::default();
    for _ in 0..500 {
        let mut votes = round(&mut dice, 1);
        for prompt in &mut votes.prompts {
            let any = |dice: &mut Dice| (peer(dice.below(7) as u8), CandidateId::of(0, "x"));
            let (stranger, candidate) = any(&mut dice);
            prompt.assigned.insert(stranger, BTreeSet::from([candidate]));
            let verdict = [Verdict::Right, Verdict::Wrong, Verdict::Unclear][dice.below(3) as usize];
            prompt.verdicts.insert(stranger, BTreeMap::from([(candidate, verdict)]));
            prompt.gold = (dice.below(2) == 0).then_some(candidate);
        }
        let settled = settle(&Rules::default(), &state, &votes);
        let roster: BTreeSet<PeerKey> = votes.roster.iter().copied().collect();
        assert!(settled.next.critics.keys().all(|peer| roster.contains(peer)));
        state = settled.next;
        if dice.below(20) == 0 {
            for critic in state.critics.values_mut() {
                (critic.right_sum_micro, critic.wrong_micro) = (i64::MIN, u64::MAX);
            }
        }
        assert!(state.critics.values().all(|critic| critic.skill_permille().abs() <= 1000));
    }
}
