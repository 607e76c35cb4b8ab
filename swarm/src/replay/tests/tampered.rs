//! Every field of every kind of record, rewritten with lengths, checksums and chain repaired: found and named.

use serde_bytes::ByteBuf;
use std::path::Path;

use judge::{CandidateId, PeerKey, Verdict};
use tempfile::TempDir;

use super::{Difference, difference, logged, replay, replayed, write};
use crate::bitmap::Bitmap;
use crate::blob::Address;
use crate::engine::tests::World;
use crate::engine::tests::bodies::thinking;
use crate::identity::Identity;
use crate::log::tests::{records, write_bodies, write_raw};
use crate::log::{Header, Record, Seal, Training};
use crate::message::{
    Ballot, Certificate, Commit, Critique, Envelope, Kind, Payload, Reveal, Score, Share, Statement,
    TextCritique,
};
use crate::proof::Proof;
use crate::wire::{self, Hash, Sig};

/// A value in place of another one.
type Rewritten<T> = (&'static str, T);
/// A field, and how to rewrite it.
type Way<'a, T> = (&'static str, &'a dyn Fn(&mut T));

fn other(hash: &Hash) -> Hash {
    let mut hash = *hash;
    hash.0[7] ^= 1;
    hash
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes
}

fn another_peer() -> PeerKey {
    Identity::from_seed([99; 32]).public()
}

/// Each way to rewrite one field of `value`.
fn each<T: Clone>(value: &T, ways: &[Way<T>]) -> Vec<Rewritten<T>> {
    let rewritten = |(field, way): &Way<T>| {
        let mut value = value.clone();
        way(&mut value);
        (*field, value)
    };
    ways.iter().map(rewritten).collect()
}

fn rewrites(record: &Record) -> Vec<Rewritten<Record>> {
    match record {
        Record::Header(header) => wrapped(headers(header), Record::Header),
        Record::Opened { incarnation, certificates: path, place, state } => {
            let opened = |incarnation, path: &[ByteBuf], place: &[u8], state: &[u8]| Record::Opened {
                incarnation,
                certificates: path.to_vec(),
                place: place.to_vec(),
                state: state.to_vec(),
            };
            let mut all = vec![("incarnation", opened(incarnation + 1, path, place, state))];
            if let Some((last, before)) = path.split_last() {
                all.push(("state", opened(*incarnation, path, place, &flipped(state))));
                all.push(("place", opened(*incarnation, path, &flipped(place), state)));
                all.extend(wrapped(certificates(last), |bytes| {
                    opened(*incarnation, &[before, &[ByteBuf::from(bytes)]].concat(), place, state)
                }));
            }
            all
        }
        Record::Message { late, envelope } => {
            let mut all = vec![("late", Record::Message { late: !late, envelope: envelope.clone() })];
            all.extend(wrapped(envelopes(envelope), |envelope| Record::Message { late: *late, envelope }));
            all
        }
        Record::Body { blob, bytes } => {
            let of = |blob: &Address, bytes: &[u8]| Record::Body { blob: *blob, bytes: bytes.to_vec() };
            let (renamed, longer) =
                (Address { hash: other(&blob.hash), ..*blob }, Address { len: blob.len + 1, ..*blob });
            let text = [&bytes[..40], b"another text", &bytes[52..]].concat();
            vec![
                ("blob", of(&renamed, bytes)),
                ("blob", of(&longer, bytes)),
                ("bytes", of(blob, &text)),
                ("bytes", of(blob, &bytes[..bytes.len() - 1])),
                ("bytes", of(blob, &[])),
            ]
        }
        Record::Checkpoint { certificates: all } => {
            let mut rewritten = Vec::new();
            for i in [0, all.len() / 2, all.len() - 1] {
                let put = |bytes: Vec<u8>| {
                    let mut all = all.clone();
                    all[i] = bytes.into();
                    Record::Checkpoint { certificates: all }
                };
                rewritten.extend(wrapped(certificates(&all[i]), put));
                let mut fewer = all.clone();
                fewer.remove(i);
                rewritten.push(("certificates", Record::Checkpoint { certificates: fewer }));
            }
            rewritten
        }
        Record::Certificate { certificate } => {
            wrapped(certificates(certificate), |certificate| Record::Certificate { certificate })
        }
        Record::Gap { certificates: all, state } => {
            let gap = |certificates, state: &[u8]| Record::Gap { certificates, state: state.to_vec() };
            let mut rewritten = vec![("state", gap(all.clone(), &flipped(state)))];
            for i in 0..all.len() {
                let put = |bytes: Vec<u8>| {
                    let mut all = all.clone();
                    all[i] = bytes.into();
                    gap(all, state)
                };
                rewritten.extend(wrapped(certificates(&all[i]), put));
                let mut fewer = all.clone();
                fewer.remove(i);
                rewritten.push(("certificates", gap(fewer, state)));
            }
            rewritten
        }
        Record::Learner { settings } => {
            vec![("settings", Record::Learner { settings: format!("{settings} ") })]
        }
        Record::Training(training) => wrapped(trainings(training), Record::Training),
        Record::Seal(seal) => wrapped(seals(seal), Record::Seal),
    }
}

fn wrapped<T>(all: Vec<Rewritten<T>>, wrap: impl Fn(T) -> Record) -> Vec<Rewritten<Record>> {
    all.into_iter().map(|(field, value)| (field, wrap(value))).collect()
}

fn headers(header: &Header) -> Vec<Rewritten<Header>> {
    each(
        header,
        &[
            ("version", &|h| h.version += 1),
            ("swarm", &|h| h.swarm = other(&h.swarm)),
            ("manifest", &|h| h.manifest[10] ^= 1),
            ("peer", &|h| h.peer = another_peer()),
        ],
    )
}

fn trainings(training: &Training) -> Vec<Rewritten<Training>> {
    each(
        training,
        &[
            ("round", &|t| t.round -= 1),
            ("seed", &|t| t.seed = other(&t.seed)),
            ("before", &|t| t.before = other(&t.before)),
            ("after", &|t| t.after = other(&t.after)),
            ("batch", &|t| t.batch = other(&t.batch)),
            ("optimizer", &|t| t.optimizer = other(&t.optimizer)),
            ("learning_rate", &|t| t.learning_rate += 1),
            ("numerics", &|t| t.numerics.push('2')),
        ],
    )
}

fn seals(seal: &Seal) -> Vec<Rewritten<Seal>> {
    each(
        seal,
        &[
            ("records", &|s| s.records += 1),
            ("head", &|s| s.head = other(&s.head)),
            ("marks", &|s| s.marks.extend([0; 8])),
            ("closing", &|s| s.closing = !s.closing),
            ("signature", &|s| s.signature.0[5] ^= 1),
        ],
    )
}

fn envelopes(bytes: &[u8]) -> Vec<Rewritten<Vec<u8>>> {
    let envelope: Envelope = wire::decode(bytes, 1 << 20).unwrap();
    let payload: Payload = wire::decode(&envelope.payload, 1 << 20).unwrap();
    let mut payloads = each(
        &payload,
        &[
            ("version", &|p| p.version += 1),
            ("swarm", &|p| p.swarm = other(&p.swarm)),
            ("kind", &|p| p.kind = if p.kind == Kind::Commit { Kind::Ballot } else { Kind::Commit }),
            ("round", &|p| p.round += 1),
            ("start", &|p| p.start = other(&p.start)),
            ("sender", &|p| p.sender = another_peer()),
            ("sequence", &|p| p.sequence += 1),
        ],
    );
    let with = |body: Vec<u8>| Payload { body, ..payload.clone() };
    payloads.extend(bodies(&payload).into_iter().map(|(field, body)| (field, with(body))));
    let encoded =
        |payload: &Payload| wire::encode(&Envelope { payload: wire::encode(payload), ..envelope.clone() });
    let mut all: Vec<Rewritten<Vec<u8>>> =
        payloads.iter().map(|(field, payload)| (*field, encoded(payload))).collect();
    let mut forged = envelope.clone();
    forged.signature.0[0] ^= 1;
    all.push(("signature", wire::encode(&forged)));
    all
}

fn bodies(payload: &Payload) -> Vec<Rewritten<Vec<u8>>> {
    fn rewritten<T: Clone + serde::Serialize + serde::de::DeserializeOwned>(
        body: &[u8],
        ways: &[Way<T>],
    ) -> Vec<Rewritten<Vec<u8>>> {
        let body: T = wire::decode(body, 1 << 20).unwrap();
        each(&body, ways).into_iter().map(|(field, body)| (field, wire::encode(&body))).collect()
    }
    let candidate = CandidateId([0; 8]);
    match payload.kind {
        Kind::Commit => {
            rewritten::<Commit>(&payload.body, &[("commitment", &|b| b.commitment = other(&b.commitment))])
        }
        Kind::Reveal => rewritten::<Reveal>(
            &payload.body,
            &[
                ("prompt", &|b| b.prompt ^= 1),
                ("nonce", &|b| b.nonce = other(&b.nonce)),
                ("policy", &|b| b.policy = other(&b.policy)),
                ("numerics", &|b| b.numerics.push('2')),
                ("completions", &|b| b.completions.push("2".into())),
                ("proof", &|b| b.proof[0] = other(&b.proof[0])),
            ],
        ),
        Kind::Critique => rewritten::<Critique>(
            &payload.body,
            &[
                ("prompts", &|b| b.prompts[0].insert(0, Score { candidate, millinats: -5 })),
                ("texts", &|b| {
                    let verdict = Verdict::Right;
                    b.texts = vec![vec![TextCritique { candidate, verdict, reason: String::new() }]];
                }),
            ],
        ),
        Kind::Ballot => rewritten::<Ballot>(
            &payload.body,
            &[("prompts", &|b| b.prompts[0].insert(0, Share { candidate, permille: 1 }))],
        ),
        Kind::Proof => rewritten::<Proof>(
            &payload.body,
            &[("first", &|b| b.first = b.second.clone()), ("second", &|b| b.second = b.first.clone())],
        ),
        kind => panic!("{kind:?} is not logged"),
    }
}

fn certificates(bytes: &[u8]) -> Vec<Rewritten<Vec<u8>>> {
    let certificate: Certificate = wire::decode(bytes, 1 << 20).unwrap();
    let statement: Statement = wire::decode(&certificate.statement, 1 << 20).unwrap();
    let nobody = Bitmap::default;
    let statements = each(
        &statement,
        &[
            ("view", &|s| s.view += 1),
            ("round", &|s| s.round += 1),
            ("parent", &|s| s.parent = other(&s.parent)),
            ("commits", &|s| {
                s.commits = if s.commits.is_empty() { [0].into_iter().collect() } else { nobody() }
            }),
            ("answers", &|s| {
                s.answers = if s.answers.is_empty() { [0].into_iter().collect() } else { nobody() }
            }),
            ("critiques", &|s| {
                s.critiques = if s.critiques.is_empty() { [0].into_iter().collect() } else { nobody() }
            }),
            ("ballots", &|s| {
                s.ballots = if s.ballots.is_empty() { [0].into_iter().collect() } else { nobody() }
            }),
            ("items", &|s| s.items = other(&s.items)),
            ("settlement", &|s| s.settlement = other(&s.settlement)),
            ("state", &|s| s.state = other(&s.state)),
            ("roster", &|s| s.roster.truncate(1)),
        ],
    );
    let encoded = |statement: &Statement| {
        wire::encode(&Certificate { statement: wire::encode(statement), ..certificate.clone() })
    };
    let mut all: Vec<Rewritten<Vec<u8>>> = statements.iter().map(|(field, s)| (*field, encoded(s))).collect();
    let signed = each(
        &certificate,
        &[
            ("signatures", &|c| c.signatures.truncate(1)),
            ("signatures", &|c| c.signatures[0].signature = Sig([7; 64])),
            ("signatures", &|c| c.signatures[0].peer = another_peer()),
        ],
    );
    all.extend(signed.iter().map(|(field, certificate)| (*field, wire::encode(certificate))));
    all
}

/// A log with every kind of record in it: a newcomer that verified from a checkpoint to a swarm with long answers,
/// saw a peer convicted, was killed, came back, and ended well.
fn every_kind(dir: &Path) -> (PeerKey, Vec<Record>) {
    let mut world = thinking(4, 2, 4_200);
    world.run_to(4, 20_000);
    let founder = world.key(0);
    let newest = replayed(&world)[&founder].checkpoint.unwrap();
    let newcomer = Identity::from_seed([50; 32]);
    let key = newcomer.public();
    world.identities.insert(key, newcomer);
    world.trusted.insert(key, newest);
    world.start(key);
    settle_after(&mut world, key, 0);
    let offender = world.peers.keys().find(|peer| ![key, founder].contains(peer)).copied().unwrap();
    world.equivocate(offender);
    let round = world.rounds(key);
    settle_after(&mut world, key, round + 1);
    world.kill(key);
    let round = world.rounds(founder);
    settle_after(&mut world, founder, round + 1);
    world.start(key);
    let round = world.rounds(founder);
    settle_after(&mut world, key, round + 1);
    let path = write(dir, &world, &key, &logged(&world)[&key]);
    assert!(replay(&path, None).unwrap().closed);
    (key, records(&path))
}

/// Runs until a peer has settled a round after `round`.
fn settle_after(world: &mut World, key: PeerKey, round: u32) {
    let end = world.now + 300_000;
    while world.rounds(key) <= round {
        let stand = || world.peers[&key].engine.as_ref().map(|engine| engine.status(world.now));
        assert!(world.now < end, "round {round} not reached: {:#?}", stand());
        world.run(10);
    }
}

struct Tampered {
    dir: TempDir,
    owner: PeerKey,
    records: Vec<Record>,
}

impl Tampered {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (owner, records) = every_kind(dir.path());
        Self { dir, owner, records }
    }

    /// What a replay says of these records, everything that needs no key repaired.
    fn difference(&self, records: &[Record]) -> Difference {
        let path = self.dir.path().join("tampered");
        write_raw(&path, records);
        difference(&path)
    }

    /// The first, a middle and the last record of each kind; of messages, of each kind of body.
    fn examples(&self) -> Vec<usize> {
        let mut by_kind: std::collections::BTreeMap<&str, Vec<usize>> = std::collections::BTreeMap::new();
        for (at, record) in self.records.iter().enumerate() {
            let kind = match record {
                Record::Message { envelope, .. } => super::super::names::said(envelope).0,
                other => other.kind(),
            };
            by_kind.entry(kind).or_default().push(at);
        }
        assert_eq!(by_kind.len(), 14, "{:?}", by_kind.keys());
        let few = |all: &Vec<usize>| [all[0], all[all.len() / 2], all[all.len() - 1]];
        let mut examples: Vec<usize> = by_kind.values().flat_map(few).collect();
        examples.sort_unstable();
        examples.dedup();
        examples
    }
}

/// Names under which a rewritten field may be found: its own, or that of what no longer holds because of it.
fn names(kind: &str, field: &'static str) -> Vec<&'static str> {
    let more: &[&str] = match (kind, field) {
        ("message", "late" | "version" | "swarm") => &[],
        ("message", _) => &["signature"],
        // A signature beyond the quorum changes nothing but the record.
        ("certificate", "signatures") => &["certificate"],
        ("certificate", "view" | "round") => &["view or round", "signatures"],
        ("certificate", "commits" | "answers" | "critiques" | "ballots") => &["items", "statement"],
        ("certificate", "items" | "settlement" | "roster") => &["signatures"],
        // The certificates before it say who may sign after it; the next one says which one it was.
        ("checkpoint", _) => &["certificates", "parent", "statement", "view or round", "signatures"],
        ("start", "incarnation") => &[],
        ("start", _) => &["certificates"],
        ("gap", "view" | "round") => &["view or round", "signatures"],
        // The rest is not settled again, so that only signatures and the certificates around it speak.
        ("gap", _) => &["signatures", "parent", "statement", "certificates", "state"],
        ("training step", "round") => &["seed"],
        ("training step", "after") => &["before", "policy"],
        ("seal", "closing") => &["signature"],
        ("header", "manifest") => &["swarm"],
        _ => &[],
    };
    more.iter().copied().chain([field]).collect()
}

#[test]
fn any_rewritten_field_is_found_and_named() {
    let log = Tampered::new();
    let mut rewritten_fields = 0;
    for at in log.examples() {
        let record = &log.records[at];
        for (field, rewritten) in rewrites(record) {
            rewritten_fields += 1;
            let mut records = log.records.clone();
            records[at] = rewritten;
            let found = log.difference(&records);
            let told = format!("{} {at}, {field}: {found}", record.kind());
            assert!(names(record.kind(), field).contains(&found.field.as_str()), "{told}");
            match record {
                Record::Message { envelope, .. } => {
                    let (what, author, round) = super::super::names::said(envelope);
                    assert!(found.what == what || field == "kind", "{told}");
                    assert!(Some(found.peer) == author || field == "sender", "{told}");
                    assert!(found.round == round || field == "round", "{told}");
                }
                // Nobody's, unless a reveal names it.
                Record::Body { .. } => {
                    assert!(
                        found.what == "body" && (field == "bytes") == (found.peer != log.owner),
                        "{told}"
                    );
                }
                Record::Checkpoint { .. } => assert!(["checkpoint", "gap"].contains(&found.what), "{told}"),
                Record::Header(_) if field == "peer" => assert_eq!(found.peer, another_peer(), "{told}"),
                Record::Training(step) => {
                    assert_eq!(found.peer, log.owner, "{told}");
                    let near = (step.round.saturating_sub(1)..=step.round + 1).contains(&found.round);
                    assert!(near, "{told}");
                }
                _ => assert_eq!((found.peer, found.what), (log.owner, record.kind()), "{told}"),
            }
        }
    }
    assert!(rewritten_fields > 250, "{rewritten_fields}");
}

#[test]
fn a_record_that_is_removed_repeated_or_moved_is_found() {
    let log = Tampered::new();
    for at in 0..log.records.len() {
        let mut removed = log.records.clone();
        removed.remove(at);
        let mut repeated = log.records.clone();
        repeated.insert(at, log.records[at].clone());
        let mut moved = log.records.clone();
        if at + 1 < moved.len() {
            moved.swap(at, at + 1);
        }
        let last = at + 1 == log.records.len();
        for (how, records) in [("removed", removed), ("repeated", repeated), ("moved", moved)] {
            let path = log.dir.path().join("tampered");
            write_raw(&path, &records);
            match replay(&path, None) {
                // Nothing within the log tells; that it is not closed does.
                Ok(replayed) if last => assert!(how == "moved" || !replayed.closed, "{how}"),
                Ok(_) => panic!("record {at} {how}: not found"),
                Err(_) => {}
            }
        }
    }
}

#[test]
fn a_log_that_was_cut_is_not_closed() {
    let log = Tampered::new();
    for len in 1..log.records.len() {
        let path = log.dir.path().join("tampered");
        write_raw(&path, &log.records[..len]);
        let replayed = replay(&path, None).unwrap();
        assert!(!replayed.closed && replayed.records == len as u64, "{len}");
    }
}

#[test]
fn a_log_of_another_hand_is_not_the_owners() {
    let log = Tampered::new();
    let mut records = log.records.clone();
    let stranger = Identity::from_seed([77; 32]);
    // Everything sealed again, by somebody who has not the key.
    for record in &mut records {
        if let Record::Seal(seal) = record {
            let Record::Header(header) = &log.records[0] else { panic!() };
            let signed = seal.signed(&crate::topic::SwarmId(header.swarm.0));
            seal.signature = Sig(stranger.sign(crate::log::SEAL_DOMAIN, &signed.0));
        }
    }
    let found = log.difference(&records);
    assert_eq!((found.what, found.field.as_str()), ("seal", "signature"));
}

#[test]
fn any_changed_byte_of_any_record_is_found_with_every_checksum_repaired() {
    let log = Tampered::new();
    let bodies: Vec<Vec<u8>> = log.records.iter().map(wire::encode).collect();
    let path = log.dir.path().join("tampered");
    // The place of each change follows from its number, which a failure names.
    for number in 0..600u64 {
        let draw = Hash::of("test", &[&number.to_le_bytes()]).0;
        let at = usize::from(u16::from_le_bytes([draw[0], draw[1]])) % bodies.len();
        let byte = usize::from(u16::from_le_bytes([draw[2], draw[3]])) % bodies[at].len();
        let mut changed = bodies.clone();
        changed[at][byte] ^= draw[4].max(1);
        write_bodies(&path, &changed);
        let found = replay(&path, None);
        // Another spelling of the same closing seal changes nothing that anybody reads.
        let same = || wire::decode::<Record>(&changed[at], 1 << 20).as_ref() == Ok(&log.records[at]);
        assert!(
            found.is_err() || at + 1 == bodies.len() && same(),
            "change {number}: record {at}, byte {byte}"
        );
    }
}
