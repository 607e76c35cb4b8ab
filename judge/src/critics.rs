//! Who writes a text critique of which candidate.
//!
//! Writing costs a model more than scoring does, so every candidate goes to a few critics only. They are drawn once
//! the answers are shown, from the beacon and from a secret of each critic's own that its reveal has just opened (the
//! nonce of its commit): whoever answers cannot know who will judge the answer. Each pair of critic and candidate has
//! a rank of its own and the lowest ranks write (rendezvous hashing; Thaler and Ravishankar, 1998), so a peer whose
//! answers came too late changes its own assignments and no others.

use crate::key::{CandidateId, PeerKey};
use crate::votes::PromptVotes;
use std::collections::{BTreeMap, BTreeSet};

/// The candidates that each critic is to judge, one map a prompt.
pub type Assignment = Vec<BTreeMap<PeerKey, BTreeSet<CandidateId>>>;

/// One pair of critic and candidate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Task {
    rank: u64,
    prompt: usize,
    candidate: CandidateId,
}

/// Assigns `critics` critics to every candidate of a round, but at most `most` candidates to one critic.
///
/// `nonces` are the peers whose answers are included, each with the nonce that it revealed; nobody else may be a
/// critic. Whoever proposed the candidate itself is asked only where others are too few, and then about another
/// author's text; the only author never is. So every candidate is covered as soon as two peers answered and `most`
/// is large enough; beyond it the highest ranks of a critic are left out.
pub fn assign(
    beacon: &[u8; 32],
    nonces: &BTreeMap<PeerKey, [u8; 32]>,
    critics: u16,
    most: u16,
    prompts: &[PromptVotes],
) -> Assignment {
    let tags: BTreeMap<PeerKey, u64> =
        nonces.iter().map(|(peer, nonce)| (*peer, tag(beacon, peer, nonce))).collect();
    let mut tasks: BTreeMap<PeerKey, Vec<Task>> = BTreeMap::new();
    for (prompt, votes) in prompts.iter().enumerate() {
        for (candidate, authors) in authors(votes, nonces) {
            for (rank, peer) in lowest(candidate, &authors, &tags, critics.into()) {
                tasks.entry(peer).or_default().push(Task { rank, prompt, candidate });
            }
        }
    }
    let mut assignment: Assignment = prompts.iter().map(|_| BTreeMap::new()).collect();
    for (peer, mut tasks) in tasks {
        tasks.sort_unstable();
        tasks.truncate(most.into());
        for Task { prompt, candidate, .. } in tasks {
            if let Some(of_prompt) = assignment.get_mut(prompt) {
                of_prompt.entry(peer).or_default().insert(candidate);
            }
        }
    }
    assignment
}

/// Who among the included peers proposed what.
fn authors(
    votes: &PromptVotes,
    included: &BTreeMap<PeerKey, [u8; 32]>,
) -> BTreeMap<CandidateId, BTreeSet<PeerKey>> {
    let mut authors: BTreeMap<CandidateId, BTreeSet<PeerKey>> = BTreeMap::new();
    for (peer, completions) in votes.completions.iter().filter(|(peer, _)| included.contains_key(*peer)) {
        for candidate in completions.iter().flatten() {
            authors.entry(*candidate).or_default().insert(*peer);
        }
    }
    authors
}

/// The critics of one candidate with their ranks.
fn lowest(
    candidate: CandidateId,
    authors: &BTreeSet<PeerKey>,
    tags: &BTreeMap<PeerKey, u64>,
    count: usize,
) -> Vec<(u64, PeerKey)> {
    let candidate = u64::from_le_bytes(candidate.0);
    let alone = authors.len() == 1;
    let able = tags.iter().filter(|(peer, _)| !(alone && authors.contains(*peer)));
    let mut ranked: Vec<(bool, u64, PeerKey)> =
        able.map(|(peer, tag)| (authors.contains(peer), mix(tag ^ candidate), *peer)).collect();
    ranked.sort_unstable();
    ranked.into_iter().take(count).map(|(_, rank, peer)| (rank, peer)).collect()
}

fn tag(beacon: &[u8; 32], peer: &PeerKey, nonce: &[u8; 32]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"murmur/critic/1\0").update(beacon).update(&peer.0).update(nonce);
    let mut tag = [0; 8];
    hasher.finalize_xof().fill(&mut tag);
    u64::from_le_bytes(tag)
}

/// The finaliser of SplitMix64: the inputs are hashes already, and a roster of 256 has millions of pairs.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerKey {
        PeerKey([n; 32])
    }

    /// Prompts in which peer `n` gives `answers[n]`, a word for each completion.
    fn prompts(count: u16, answers: &[&str]) -> Vec<PromptVotes> {
        let prompt = |index: u16| {
            let given = |text: &&str| {
                text.split_whitespace().map(|word| Some(CandidateId::of(index, word))).collect::<Vec<_>>()
            };
            let completions = (1..).zip(answers).map(|(n, text)| (peer(n), given(text))).collect();
            PromptVotes { completions, ..PromptVotes::default() }
        };
        (0..count).map(prompt).collect()
    }

    fn nonces(count: u8) -> BTreeMap<PeerKey, [u8; 32]> {
        (1..=count).map(|n| (peer(n), [n ^ 0x5a; 32])).collect()
    }

    fn critics_of(assignment: &Assignment, prompt: usize, word: &str) -> Vec<PeerKey> {
        let candidate = CandidateId::of(prompt as u16, word);
        let of_prompt = assignment[prompt].iter().filter(|(_, list)| list.contains(&candidate));
        of_prompt.map(|(peer, _)| *peer).collect()
    }

    #[test]
    fn every_candidate_is_covered_and_nobody_judges_what_only_it_said() {
        let prompts = prompts(40, &["7 7 9", "7 8", "7", "5 6"]);
        for critics in 1..=3 {
            let assignment = assign(&[3; 32], &nonces(4), critics, 1000, &prompts);
            for prompt in 0..40 {
                for (word, only) in
                    [("9", Some(1)), ("8", Some(2)), ("6", Some(4)), ("5", Some(4)), ("7", None)]
                {
                    let found = critics_of(&assignment, prompt, word);
                    assert_eq!(found.len(), usize::from(critics), "{word} of prompt {prompt}");
                    assert!(only.is_none_or(|only| !found.contains(&peer(only))), "{word} by itself");
                }
                // Three of four said it: the fourth is asked first.
                assert!(critics_of(&assignment, prompt, "7").contains(&peer(4)));
            }
        }
    }

    #[test]
    fn a_sole_peer_has_no_critic_and_nobody_outside_is_asked() {
        let alone = assign(&[3; 32], &nonces(1), 2, 10, &prompts(1, &["7"]));
        assert_eq!(alone, [BTreeMap::new()]);
        let late = assign(&[3; 32], &nonces(2), 2, 10, &prompts(1, &["7", "8", "9"]));
        assert!(
            critics_of(&late, 0, "9").is_empty(),
            "the answers of a peer without a nonce are not included"
        );
        assert_eq!(critics_of(&late, 0, "8"), [peer(1)]);
    }

    #[test]
    fn work_is_shared_and_bounded() {
        let prompts = prompts(200, &["1 2", "3 4", "5 6", "7 8"]);
        let load = |most| {
            let assignment = assign(&[9; 32], &nonces(4), 1, most, &prompts);
            let mut load = BTreeMap::new();
            for (peer, list) in assignment.iter().flatten() {
                *load.entry(*peer).or_insert(0) += list.len();
            }
            load.into_values().collect::<Vec<usize>>()
        };
        // 400 each expected, standard deviation 17; nothing here is random.
        assert!(load(u16::MAX).iter().all(|n| (340..460).contains(n)), "{:?}", load(u16::MAX));
        assert_eq!(load(u16::MAX).iter().sum::<usize>(), 1600);
        assert_eq!(load(64), [64; 4]);
    }

    #[test]
    fn a_late_peer_changes_only_its_own_assignments_and_the_nonce_decides() {
        let prompts = prompts(60, &["1", "2", "3", "4", "5"]);
        let all = assign(&[9; 32], &nonces(5), 1, 1000, &prompts);
        let four = assign(&[9; 32], &nonces(4), 1, 1000, &prompts);
        let mut moved = 0;
        for prompt in 0..60 {
            for word in ["1", "2", "3", "4"] {
                let (before, after) = (critics_of(&all, prompt, word), critics_of(&four, prompt, word));
                assert!(before == after || before == [peer(5)], "{word}: {before:?} {after:?}");
                moved += usize::from(before != after);
            }
        }
        assert!(moved > 20, "the fifth had some: {moved}");
        let mut other = nonces(5);
        other.insert(peer(2), [77; 32]);
        assert_ne!(assign(&[9; 32], &other, 1, 1000, &prompts), all);
    }

    #[test]
    fn the_assignment_never_changes() {
        let assignment = assign(&[7; 32], &nonces(3), 1, 10, &prompts(6, &["1 2", "1 3", "4"]));
        let critics: Vec<u8> = (0..6)
            .flat_map(|prompt| ["1", "2", "3", "4"].map(|word| critics_of(&assignment, prompt, word)[0].0[0]))
            .collect();
        assert_eq!(critics, [3, 2, 1, 2, 3, 3, 1, 2, 3, 2, 1, 2, 3, 2, 1, 1, 3, 2, 1, 1, 3, 2, 3, 2]);
    }
}
