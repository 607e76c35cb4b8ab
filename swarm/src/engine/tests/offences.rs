//! Peers that say two things: convicted by whoever sees both, left out by all; and honest peers that crash at any
//! moment: never.

use serde_bytes::ByteBuf;

use super::*;
use crate::certificate::{convictions_hold, signed_bytes};
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::message::{
    Commit, ENVELOPE_DOMAIN, Envelope, Kind, Payload, Proposal, STATEMENT_DOMAIN, Signature, Statement,
};
use crate::proof::{Evidence, Proof};
use crate::wire::{self, Sig};

fn open(bytes: &[u8]) -> Payload {
    let envelope: Envelope = wire::decode(bytes, bytes.len()).unwrap();
    wire::decode(&envelope.payload, bytes.len()).unwrap()
}

fn seal(identity: &Identity, payload: &Payload) -> Vec<u8> {
    let payload = wire::encode(payload);
    let signature = Sig(identity.sign(ENVELOPE_DOMAIN, &payload));
    wire::encode(&Envelope { payload, signature })
}

impl World {
    fn head_of(&self, key: &PeerKey) -> Statement {
        self.peers[key].engine.as_ref().unwrap().head().link.as_ref().unwrap().statement.clone()
    }

    /// Runs until `author` says something of this kind, and returns it; others have not received it yet.
    fn next_said(&mut self, author: &PeerKey, kind: Kind) -> Payload {
        for _ in 0..20_000 {
            let seen = self.published.len();
            self.run(1);
            let said = self.published[seen..].iter().map(|(_, bytes)| open(bytes));
            if let Some(payload) = said.into_iter().find(|said| said.kind == kind && said.sender == *author) {
                return payload;
            }
        }
        panic!("{kind:?} never said");
    }

    fn run_until(&mut self, done: impl Fn(&World) -> bool) {
        for _ in 0..60_000 {
            if done(self) {
                return;
            }
            self.run(1);
        }
        panic!("it never happened");
    }

    /// Has `author` say this too, to some of the others only.
    fn say(&mut self, author: &PeerKey, payload: &Payload, to: &[PeerKey]) {
        let bytes = seal(&self.identities[author], payload);
        self.wire.extend(to.iter().map(|to| (*to, payload.kind.topic(), bytes.clone())));
    }

    fn honest(&self, offender: &PeerKey) -> Vec<PeerKey> {
        self.peers.keys().filter(|key| *key != offender).copied().collect()
    }

    /// Everybody else convicts `offender` within two rounds, and it stays out.
    fn assert_left_out(&mut self, offender: &PeerKey) {
        let honest = self.honest(offender);
        let round = honest.iter().map(|key| self.rounds(*key)).max().unwrap();
        self.stop_at(round + 2, &honest);
        for key in &honest {
            let head = self.head_of(key);
            assert!(!head.roster.contains(offender) && head.offenders == [*offender], "{head:?}");
            let named = |event: &&Event| matches!(event, Event::Equivocated { peer, .. } if peer == offender);
            assert_eq!(self.peers[key].events.iter().filter(named).count(), 1, "named once");
        }
        self.stop_at(round + 6, &honest);
        let rounds = honest.iter().flat_map(|key| &self.peers[key].settled);
        let later: Vec<&Settled> = rounds.filter(|settled| settled.round > round + 2).collect();
        assert!(later.iter().all(|settled| !settled.roster.contains(offender)) && later.len() > 6);
        self.assert_agreement();
    }

    fn stop_at(&mut self, round: u32, of: &[PeerKey]) {
        for _ in 0..6_000 {
            self.run(10);
            if of.iter().all(|key| self.rounds(*key) >= round) {
                return;
            }
        }
        panic!("round {round} not reached");
    }
}

/// What an author says besides, given what it said to everybody.
type Other = fn(&Identity, &SwarmId, Payload) -> Payload;

/// Another commit, or the same message under another sequence number: two halves that hold one each could not agree
/// on what the round includes.
fn again(_: &Identity, _: &SwarmId, mut payload: Payload) -> Payload {
    if payload.kind == Kind::Commit {
        payload.body = wire::encode(&Commit { commitment: Hash([9; 32]), audit: None });
    }
    Payload { sequence: payload.sequence + 1000, ..payload }
}

fn other_proposal(_: &Identity, _: &SwarmId, mut payload: Payload) -> Payload {
    let Proposal { statement } = wire::decode(&payload.body, ENVELOPE_BYTES_MAX).unwrap();
    let statement: Statement = wire::decode(&statement, ENVELOPE_BYTES_MAX).unwrap();
    let statement = wire::encode(&Statement { items: Hash([9; 32]), ..statement });
    payload.body = wire::encode(&Proposal { statement });
    payload
}

fn other_signature(identity: &Identity, swarm: &SwarmId, mut payload: Payload) -> Payload {
    let said: Signature = wire::decode(&payload.body, ENVELOPE_BYTES_MAX).unwrap();
    let statement = Hash([9; 32]);
    let signature = Sig(identity.sign(STATEMENT_DOMAIN, &signed_bytes(swarm, &statement)));
    payload.body = wire::encode(&Signature { view: said.view, statement, signature });
    payload
}

#[test]
fn whoever_says_two_things_is_left_out_by_all() {
    let kinds: [(Kind, Other); 6] = [
        (Kind::Commit, again),
        (Kind::Reveal, again),
        (Kind::Critique, again),
        (Kind::Ballot, again),
        (Kind::Proposal, other_proposal),
        (Kind::Signature, other_signature),
    ];
    for (kind, other) in kinds {
        for told in [1, 2, 4] {
            let mut world = World::new(5, true, 5);
            world.run_to(2, 20_000);
            let (offender, swarm) = (world.key(1), world.manifest.id());
            let honest = world.honest(&offender);
            let said = world.next_said(&offender, kind);
            let second = other(&world.identities[&offender], &swarm, said);
            world.say(&offender, &second, &honest[..told]);
            world.assert_left_out(&offender);
        }
    }
}

/// Half of a swarm holds one commit and half the other, so no statement could include either: the view in which
/// the proof arrives does not.
#[test]
fn two_halves_that_were_told_different_things_go_on() {
    let mut world = World::new(5, true, 5);
    world.run_to(2, 20_000);
    let offender = world.key(4);
    let honest = world.honest(&offender);
    let said = world.next_said(&offender, Kind::Commit);
    let second = again(&world.identities[&offender], &world.manifest.id(), said);
    // The first half never receives what the second half did.
    let (first_half, second_half) = honest.split_at(2);
    world.wire.retain(|(to, _, bytes)| !(second_half.contains(to) && open(bytes).sender == offender));
    world.say(&offender, &second, second_half);
    world.assert_left_out(&offender);
    let settled = &world.peers[&first_half[0]].settled;
    assert!(
        settled
            .iter()
            .any(|settled| settled.roster.contains(&offender) && !settled.answered.contains(&offender))
    );
}

/// Nobody was sent both signatures: one is in a certificate only.
#[test]
fn a_signature_in_a_certificate_is_evidence() {
    let mut world = World::new(4, true, 4);
    world.run_to(2, 20_000);
    let offender = world.key(1);
    let said = world.next_said(&offender, Kind::Signature);
    let second = other_signature(&world.identities[&offender], &world.manifest.id(), said);
    let deceived: Vec<PeerKey> = world.honest(&offender)[..1].to_vec();
    world.wire.retain(|(to, topic, _)| *to != deceived[0] || *topic != Topic::Control);
    world.say(&offender, &second, &deceived);
    world.assert_left_out(&offender);
}

/// Two commits of `author` and the proof of it.
fn two_commits(world: &World, author: &Identity, start: Hash) -> (Proof, [Vec<u8>; 2]) {
    let commit = |n: u8| {
        let payload = Payload {
            version: crate::limits::PROTOCOL,
            swarm: Hash(world.manifest.id().0),
            kind: Kind::Commit,
            round: 1,
            start,
            sender: author.public(),
            sequence: 1,
            body: wire::encode(&Commit { commitment: Hash([n; 32]), audit: None }),
        };
        seal(author, &payload)
    };
    let both = [commit(1), commit(2)];
    let [first, second] = both.clone().map(|bytes| Evidence::Envelope(ByteBuf::from(bytes)));
    (Proof { first, second }, both)
}

#[test]
fn forged_proofs_are_rejected_and_true_ones_taken_once() {
    let mut world = World::new(4, true, 4);
    world.run_to(1, 20_000);
    let [accuser, accused, judge] = [0, 1, 2].map(|i| world.key(i));
    let swarm = world.manifest.id();
    let identities = world.identities.clone();
    let start = Hash([5; 32]);
    let (proof, [first, second]) = two_commits(&world, &identities[&accused], start);
    let evidence = |bytes: &[u8]| Evidence::Envelope(ByteBuf::from(bytes.to_vec()));
    let (other_author, _) = two_commits(&world, &identities[&accuser], start);
    let (other_round, _) = two_commits(&world, &identities[&accused], Hash([6; 32]));
    let elsewhere = World::new(4, true, 3);
    let (other_swarm, _) = two_commits(&elsewhere, &elsewhere.identities[&accused], start);
    let mut altered: Envelope = wire::decode(&second, ENVELOPE_BYTES_MAX).unwrap();
    let at = altered.payload.len() - 1;
    altered.payload[at] ^= 1;
    let statement = wire::encode(&world.head_of(&judge));
    let hash = crate::certificate::statement_hash(&statement);
    let signature = |signed: Vec<u8>| {
        let signature = Sig(identities[&accused].sign(STATEMENT_DOMAIN, &signed));
        let signed = crate::message::Signed { peer: accused, signature };
        Evidence::Signature { statement: ByteBuf::from(statement.clone()), signed }
    };
    let elsewhere_signed = signature(signed_bytes(&elsewhere.manifest.id(), &hash).to_vec());
    let view = world.head_of(&judge).view;
    let here = |view, statement: Hash| {
        let signature = Sig(identities[&accused].sign(STATEMENT_DOMAIN, &signed_bytes(&swarm, &statement)));
        let payload = open(&first);
        let body = wire::encode(&Signature { view, statement, signature });
        evidence(&seal(&identities[&accused], &Payload { kind: Kind::Signature, body, ..payload }))
    };
    let forged = [
        ("one message twice", Proof { first: evidence(&first), second: evidence(&first) }),
        ("two authors", Proof { first: evidence(&first), second: other_author.second }),
        ("two rounds", Proof { first: evidence(&first), second: other_round.second }),
        ("of another swarm", other_swarm),
        ("altered", Proof { first: evidence(&first), second: evidence(&wire::encode(&altered)) }),
        ("no message", Proof { first: evidence(&first), second: evidence(b"nothing") }),
        (
            "one statement",
            Proof { first: here(view, hash), second: signature(signed_bytes(&swarm, &hash).to_vec()) },
        ),
        ("two views", Proof { first: here(view, hash), second: here(view + 1, Hash([3; 32])) }),
        ("of two swarms", Proof { first: here(view, Hash([3; 32])), second: elsewhere_signed }),
    ];
    let say = |world: &mut World, proof: &Proof, sequence: u32| {
        let body = wire::encode(proof);
        let payload = Payload { kind: Kind::Proof, sender: accuser, sequence, body, ..open(&first) };
        let bytes = seal(&identities[&accuser], &payload);
        let now = world.now;
        world.peers.get_mut(&judge).unwrap().engine.as_mut().unwrap().receive(now, Topic::Proofs, &bytes)
    };
    for (name, proof) in &forged {
        assert!(proof.verify(&swarm).is_err(), "{name}");
        assert_eq!(say(&mut world, proof, 1), Verdict::Reject, "{name}");
    }
    let (stranger, _) = two_commits(&world, &Identity::from_seed([77; 32]), start);
    assert_eq!(say(&mut world, &stranger, 2), Verdict::Ignore, "a stranger may be anybody's own invention");
    assert_eq!(say(&mut world, &proof, 3), Verdict::Accept);
    assert_eq!(say(&mut world, &proof, 4), Verdict::Ignore, "one for each offender goes round");
    let engine = world.peers[&judge].engine.as_ref().unwrap();
    let with = world.head_of(&judge);
    assert!(!engine.convicts_rightly(&with), "a roster with an offender is not signed");
    let mut without = Statement { offenders: vec![accused], ..with };
    without.roster.retain(|peer| *peer != accused);
    assert!(engine.convicts_rightly(&without));
    let mixed =
        Proof { first: here(view, Hash([3; 32])), second: signature(signed_bytes(&swarm, &hash).to_vec()) };
    assert_eq!(
        mixed.verify(&swarm).map(|offence| offence.peer),
        Ok(accused),
        "a message against a certificate"
    );
}

#[test]
fn nobody_is_convicted_without_a_proof() {
    let mut world = World::new(4, true, 4);
    world.run_to(2, 20_000);
    let key = world.key(0);
    let parent = world.head_of(&key);
    let engine = world.peers[&key].engine.as_ref().unwrap();
    let victim = parent.roster[1];
    let mut statement = parent.clone();
    assert!(engine.convicts_rightly(&statement));
    statement.offenders = vec![victim];
    assert!(!engine.convicts_rightly(&statement), "no proof here");
    assert!(convictions_hold(&statement, Some(&parent)).is_err(), "still in the roster");
    statement.roster.retain(|peer| *peer != victim);
    assert!(convictions_hold(&statement, Some(&parent)).is_err(), "its messages are included");
    let without = |n: usize| (0..n).filter(|i| *i != 1).collect();
    (statement.commits, statement.answers) = (without(4), without(4));
    (statement.critiques, statement.ballots) = (without(4), without(4));
    assert_eq!(convictions_hold(&statement, Some(&parent)), Ok(()));
    let forgiving = Statement { offenders: Vec::new(), ..statement.clone() };
    assert!(convictions_hold(&forgiving, Some(&statement)).is_err(), "once convicted, always");
}

/// Everything that anybody said, by author and slot.
fn assert_nobody_said_two_things(world: &World) {
    let swarm = world.manifest.id();
    let mut said = BTreeMap::new();
    for (_, bytes) in &world.published {
        let Ok(claim) = Evidence::Envelope(ByteBuf::from(bytes.clone())).claim(&swarm) else { continue };
        let before = said.insert((claim.peer, claim.slot), claim.content);
        assert!(before.is_none_or(|before| before == claim.content), "{:?}", claim.slot);
    }
    assert!(said.len() > 30, "{}", said.len());
}

#[test]
fn an_honest_peer_that_crashes_anywhere_never_says_two_things() {
    for outputs in 0..45 {
        let mut world = World::new(4, true, 4);
        world.run_to(1, 20_000);
        let victim = world.key(outputs % 4);
        for _ in 0..2 {
            let mut left = outputs;
            world.fuse = Some(Box::new(move |key, _| {
                left = left.saturating_sub(usize::from(*key == victim));
                left == 0 && *key == victim
            }));
            world.run_until(|world| world.peers[&victim].engine.is_none());
            world.run(outputs as u64 % 50);
            world.start(victim);
        }
        world.run(2_000);
        assert_nobody_said_two_things(&world);
    }
}

/// The swarm stops as soon as a proposal is out, and continues from disk: its proposer, which lost what it had
/// included, must not propose for that view again.
#[test]
fn a_proposer_that_crashes_does_not_propose_again() {
    let mut world = World::new(4, true, 4);
    world.run_to(2, 20_000);
    let proposes =
        |output: &Output| matches!(output, Output::Publish(_, bytes) if open(bytes).kind == Kind::Proposal);
    world.fuse = Some(Box::new(move |_, output| proposes(output)));
    world.run_until(|world| world.fuse.is_none());
    let keys: Vec<PeerKey> = world.peers.keys().copied().collect();
    keys.iter().for_each(|key| world.kill(*key));
    world.wire.clear();
    keys.iter().for_each(|key| world.start(*key));
    world.run_to(4, 400_000);
    assert_nobody_said_two_things(&world);
}
