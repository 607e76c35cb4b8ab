//! Text critiques in the engine: who is asked, what is taken, what is not; and that a swarm without them says and
//! signs what it always did.

use judge::{GoldVerdicts, PromptVotes, RoundVotes, Verdict as Said, VoidReason, ballot_from_completions};

use super::*;
use crate::admission::{self, Body, Refusal};
use crate::certificate::beacon;
use crate::identity::Identity;
use crate::limits::{CRITICS_PER_CANDIDATE, PROTOCOL, REASON_BYTES_MAX, TEXT_CRITIQUES_MAX};
use crate::manifest::Critiques;
use crate::message::{Critique, ENVELOPE_DOMAIN, Envelope, Kind, Payload, Statement};
use crate::wire::{self, Sig};

/// A swarm of four with text critiques.
fn world(says: fn(&PeerKey, bool) -> Option<Said>) -> World {
    let mut manifest = World::new(4, true, 4).manifest;
    manifest.round.critiques = Critiques::Train;
    let identities = (1..=4).map(|i| Identity::from_seed([i; 32])).map(|id| (id.public(), id)).collect();
    World { says, ..World::of(manifest, identities) }
}

/// Four peers of which some write critiques.
pub(crate) fn world_with_critics() -> World {
    world(character)
}

/// Places of the peers in the order of their keys.
fn place(key: &PeerKey) -> usize {
    let mut keys: Vec<PeerKey> = (1..=4).map(|i| Identity::from_seed([i; 32]).public()).collect();
    keys.sort();
    keys.iter().position(|other| other == key).unwrap()
}

/// The first knows, the second always says wrong, the third cannot write, the fourth says the opposite.
fn character(key: &PeerKey, right: bool) -> Option<Said> {
    let truth = |right| if right { Said::Right } else { Said::Wrong };
    match place(key) {
        0 => Some(truth(right)),
        1 => Some(Said::Wrong),
        2 => None,
        _ => Some(truth(!right)),
    }
}

/// Of a swarm without text critiques, in protocol 2.
#[test]
fn the_protocol_changes_only_when_its_version_does() {
    let mut world = World::new(4, true, 4);
    assert_eq!(
        world.manifest.id().to_string(),
        "2c25707ab3db324df501a9d70fdd749d8e9ef12b81b7fd86d8ee9f67600fb5d3"
    );
    world.run_to(3, 20_000);
    let last = &world.peers[&world.key(0)].settled[2];
    assert_eq!(
        last.statement.to_string(),
        "cf6481fc31d0a8df3474dfbc1ddd81b3c428b4d7e6d99089b060247b5ba4d646"
    );
}

#[test]
fn critics_earn_what_gold_says_of_them_and_who_cannot_write_is_not_blamed() {
    let mut world = world(character);
    world.run_to(20, 60_000);
    world.assert_agreement();
    let [knows, wrong, mute, liar] = [0, 1, 2, 3].map(|i| world.key(i));
    let settled = &world.peers[&knows].settled;
    let written: usize = settled.iter().flat_map(|settled| &settled.critiques).map(Vec::len).sum();
    assert!(written > 100, "{written}");
    for settled in settled {
        let texts = settled.critiques.iter().flatten();
        assert!(
            texts.clone().all(|(peer, text)| *peer != mute && text.reason == format!("as {}", peer.name()))
        );
        for (_, text) in texts.clone() {
            let critics = texts.clone().filter(|(_, other)| other.candidate == text.candidate).count();
            assert!(critics <= CRITICS_PER_CANDIDATE.into());
        }
        assert!(settled.settlement.voids.is_empty(), "critics keep to what was assigned to them");
        assert!(!settled.settlement.gold.critics.contains_key(&mute));
    }
    let state = &settled.last().unwrap().settlement.next;
    let skill = |peer: &PeerKey| state.critics.get(peer).map(|critic| critic.skill_permille());
    assert_eq!([knows, wrong, mute, liar].map(|peer| skill(&peer)), [Some(1000), Some(0), None, Some(-1000)]);
    assert!(state.reputations.values().all(|reputation| reputation.liveness_permille == 1000));
}

#[test]
fn critiques_change_no_label_and_no_weight() {
    let silent = |_: &PeerKey, _: bool| None;
    let [spoken, unspoken] = [character as fn(&PeerKey, bool) -> _, silent].map(|says| {
        let mut world = world(says);
        world.run_to(3, 20_000);
        world.peers[&world.key(0)].settled[0].settlement.clone()
    });
    // Round 1: the beacon of round 2 depends on what was said.
    assert_eq!((&spoken.prompts, &spoken.weights), (&unspoken.prompts, &unspoken.weights));
    assert!(!spoken.next.pending_verdicts.is_empty() && unspoken.next.pending_verdicts.is_empty());
    assert_eq!(spoken.next.reputations, unspoken.next.reputations);
}

/// One round's messages as a stranger reads them off the wire.
#[derive(Default)]
struct Heard {
    completions: BTreeMap<(PeerKey, u16), Vec<String>>,
    nonces: BTreeMap<PeerKey, [u8; 32]>,
    critiques: BTreeMap<PeerKey, Critique>,
    ballots: BTreeMap<PeerKey, crate::message::Ballot>,
}

/// Everything that was published: messages by round, and statements by the round that they end.
fn overheard(world: &World) -> (BTreeMap<u32, Heard>, BTreeMap<u32, (Statement, Hash)>) {
    let mut rounds: BTreeMap<u32, Heard> = BTreeMap::new();
    let mut statements = BTreeMap::new();
    for (topic, bytes) in &world.published {
        let message = admission::authenticate(&world.manifest.id(), Some(*topic), bytes).unwrap();
        let message = admission::admit(&world.manifest, message).unwrap();
        let heard = rounds.entry(message.round).or_default();
        match message.body {
            Body::Reveal(reveal) => {
                heard.nonces.insert(message.sender, reveal.nonce.0);
                heard.completions.insert((message.sender, reveal.prompt), reveal.completions);
            }
            Body::Critique(critique) => drop(heard.critiques.insert(message.sender, critique)),
            Body::Ballot(ballot) => drop(heard.ballots.insert(message.sender, ballot)),
            Body::Certificate(certificate) => {
                let statement: Statement = wire::decode(&certificate.statement, usize::MAX).unwrap();
                let hash = crate::certificate::statement_hash(&certificate.statement);
                statements.insert(statement.round - 1, (statement, hash));
            }
            _ => {}
        }
    }
    (rounds, statements)
}

/// What the judge is told of a round in which everything was included.
fn votes(catalogue: &Catalogue, roster: &[PeerKey], beacon: &Hash, heard: &Heard) -> RoundVotes {
    let mut prompts = Vec::new();
    for (index, item) in (0u16..).zip(catalogue.schedule(&beacon.0, 4)) {
        let id = |answer: &str| CandidateId::of(index, answer);
        let mut votes =
            PromptVotes { gold: Some(id(item.gold().unwrap().answer().as_str())), ..PromptVotes::default() };
        for peer in roster {
            let texts = &heard.completions[&(*peer, index)];
            let own: Vec<_> = texts.iter().map(|text| item.parse(text).map(|a| id(a.as_str()))).collect();
            let ballot = ballot_from_completions(&own);
            let cast = heard.ballots[peer].prompts[usize::from(index)].iter();
            assert!(cast.map(|share| (share.candidate, share.permille)).eq(ballot.clone()));
            let critique = &heard.critiques[peer];
            let scores = critique.prompts[usize::from(index)].iter();
            votes.critiques.insert(*peer, scores.map(|score| (score.candidate, score.millinats)).collect());
            for text in critique.texts.get(usize::from(index)).into_iter().flatten() {
                votes.verdicts.entry(*peer).or_default().insert(text.candidate, text.verdict);
            }
            votes.completions.insert(*peer, own);
            votes.ballots.insert(*peer, ballot);
        }
        prompts.push(votes);
    }
    let assignment =
        judge::assign(&beacon.0, &heard.nonces, CRITICS_PER_CANDIDATE, TEXT_CRITIQUES_MAX, &prompts);
    for (votes, assigned) in prompts.iter_mut().zip(assignment) {
        votes.assigned = assigned;
    }
    let conduct = roster.iter().map(|peer| (*peer, judge::Conduct::CLEAN)).collect();
    RoundVotes { roster: roster.to_vec(), prompts, gold_seed: beacon.0, conduct, ..RoundVotes::default() }
}

#[test]
fn a_stranger_recomputes_every_reward_of_a_critique_from_signed_messages() {
    let mut world = world(character);
    world.run_to(8, 60_000);
    let (rounds, statements) = overheard(&world);
    let roster: Vec<PeerKey> = world.identities.keys().copied().collect();
    let catalogue = Catalogue::new(vec![(Pack::native_six(), 1)]).unwrap();
    let mut state = judge::State::founded_by(&roster);
    let mut head = statements[&0].1;
    let mut paid = 0;
    for settled in &world.peers[&roster[0]].settled {
        let votes = votes(&catalogue, &roster, &beacon(&head), &rounds[&settled.round]);
        let recomputed = judge::settle(&world.manifest.judge, &state, &votes);
        assert_eq!(recomputed, settled.settlement, "round {}", settled.round);
        let (statement, hash) = &statements[&settled.round];
        let hashes = super::super::settle::settlement_hashes(&recomputed);
        assert_eq!(hashes, (statement.settlement, statement.state), "what a quorum signed");
        paid += recomputed.gold.critics.values().filter(|critic| critic.reward_permille() != 0).count();
        // One verdict turned round is another settlement a round later.
        let mut turned = votes.clone();
        let said = turned.prompts.iter_mut().flat_map(|votes| votes.verdicts.values_mut()).flatten();
        let (_, verdict) = said.into_iter().next().unwrap();
        *verdict = if *verdict == Said::Right { Said::Wrong } else { Said::Right };
        let turned = judge::settle(&world.manifest.judge, &state, &turned);
        assert_ne!(turned.next, recomputed.next);
        (state, head) = (recomputed.next, *hash);
    }
    assert!(paid > 4, "{paid}");
}

#[test]
fn texts_beyond_the_bounds_are_rejected() {
    let world = world(character);
    let author = &world.identities[&world.key(1)];
    let admit = |manifest: &Manifest, texts: Vec<TextCritique>| {
        let critique = Critique { prompts: Vec::new(), texts: vec![texts], audits: None };
        let payload = wire::encode(&Payload {
            version: PROTOCOL,
            swarm: Hash(manifest.id().0),
            kind: Kind::Critique,
            round: 1,
            start: Hash::default(),
            sender: author.public(),
            sequence: 1,
            body: wire::encode(&critique),
        });
        let signature = Sig(author.sign(ENVELOPE_DOMAIN, &payload));
        let bytes = wire::encode(&Envelope { payload, signature });
        let message = admission::authenticate(&manifest.id(), Some(Topic::Votes), &bytes).unwrap();
        admission::admit(manifest, message).map(drop)
    };
    let text = |n: u16, reason: String| TextCritique {
        candidate: CandidateId(u64::from(n).to_be_bytes()),
        verdict: Said::Right,
        reason,
    };
    let most = |count| (0..count).map(|n| text(n, "é".repeat(REASON_BYTES_MAX / 2))).collect::<Vec<_>>();
    assert_eq!(admit(&world.manifest, most(TEXT_CRITIQUES_MAX)), Ok(()));
    let mut off = world.manifest.clone();
    off.round.critiques = Critiques::Off;
    for (manifest, texts, why) in [
        (&off, most(1), "a text critique in a swarm without them"),
        (&world.manifest, most(TEXT_CRITIQUES_MAX + 1), "more text critiques than a peer may write"),
        (&world.manifest, vec![text(1, "x".repeat(REASON_BYTES_MAX + 1))], "too long"),
        (&world.manifest, vec![text(1, "\u{1b}[2J".into())], "control characters"),
        (&world.manifest, vec![text(1, "two\nlines".into())], "control characters"),
        (&world.manifest, vec![text(2, String::new()), text(1, String::new())], "rising order"),
        (&world.manifest, vec![text(1, String::new()), text(1, String::new())], "rising order"),
    ] {
        let refusal = admit(manifest, texts).unwrap_err();
        assert!(matches!(refusal, Refusal::Reject(_)) && refusal.reason().contains(why), "{refusal:?}");
    }
    // As small on the wire as the bounds say.
    let longest = wire::encode(&text(1, "x".repeat(REASON_BYTES_MAX)));
    assert!(
        longest.len() <= REASON_BYTES_MAX + crate::limits::TEXT_CRITIQUE_OVERHEAD_BYTES,
        "{}",
        longest.len()
    );
}

#[test]
fn a_critic_that_speaks_of_what_it_was_not_asked_is_void_there() {
    let mut world = world(character);
    world.run_to(1, 20_000);
    let me = world.key(0);
    let meddler = world.key(1);
    // The meddler's policy adds a verdict on something nobody asked it about.
    loop {
        world.run(1);
        let due = world.work.iter_mut().find(|(_, of, work)| {
            *of == meddler && matches!(work, Input::Critiques { texts, .. } if !texts.is_empty())
        });
        if let Some((_, _, Input::Critiques { texts, .. })) = due {
            let nobody = CandidateId([0xff; 8]);
            texts[0].push(TextCritique { candidate: nobody, verdict: Said::Right, reason: String::new() });
            break;
        }
    }
    let round = world.rounds(me) + 1;
    world.run_to(round, 20_000);
    world.assert_agreement();
    let settled = world.peers[&me].settled.iter().find(|settled| settled.round == round).unwrap();
    assert_eq!(settled.settlement.voids, BTreeMap::from([(VoidReason::UnassignedVerdict, 1)]));
    let tried: Vec<&BTreeMap<PeerKey, GoldVerdicts>> =
        settled.settlement.next.pending_verdicts.values().collect();
    assert!(tried.iter().any(|tried| tried.contains_key(&meddler)), "its other verdicts count");
}

#[test]
fn scores_come_before_texts() {
    let mut world = world(character);
    world.run_to(1, 20_000);
    // More than fits a message.
    loop {
        world.run(1);
        let due = world.work.iter().any(|(_, _, work)| matches!(work, Input::Critiques { .. }));
        if due {
            break;
        }
    }
    let author = world.key(0);
    let round = world.rounds(author) + 1;
    for (_, of, work) in &mut world.work {
        if let (true, Input::Critiques { texts, .. }) = (*of == author, work) {
            let long = "x".repeat(REASON_BYTES_MAX);
            let text = |n: u64| TextCritique {
                candidate: CandidateId(n.to_be_bytes()),
                verdict: Said::Right,
                reason: long.clone(),
            };
            *texts = vec![(0..250).map(text).collect()];
        }
    }
    world.run_to(round, 20_000);
    let settled = world.peers[&author].settled.iter().find(|settled| settled.round == round).unwrap();
    assert!(settled.critiques.iter().flatten().all(|(peer, _)| *peer != author));
    let critiques: Vec<_> = overheard(&world).0.remove(&round).unwrap().critiques.into_iter().collect();
    let (_, own) = critiques.iter().find(|(peer, _)| *peer == author).unwrap();
    assert!(own.texts.is_empty() && !own.prompts.is_empty(), "the scores went out");
}
