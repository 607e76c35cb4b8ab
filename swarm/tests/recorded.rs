//! A recorded run, kept in `tests/verify/recorded/`: what was said in ten rounds of five peers, one of which votes
//! twice, as the log of one of them. The current code must still settle it as it did; `tests/verify/verify.py` checks the same files from the
//! text of `swarm/README.md` alone. So code, specification and verifier stay in step.
//!
//! After a change of the protocol: `MURMUR_RECORD=1 cargo test --release -p murmur-swarm --test recorded`, then
//! `tests/verify/README.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use judge::{PackOutcome, PeerKey};
use swarm::engine::{Engine, Event, Input, Output, Resume, Settled, Setup};
use swarm::identity::Identity;
use swarm::limits::{PROOF_BYTES_MAX, PROTOCOL};
use swarm::log::{Reader, Record, Writer};
use swarm::manifest::Manifest;
use swarm::message::{Envelope, Kind, Payload};
use swarm::replay::Replay;
use swarm::wire::{self, Hash};
use tasks::{Catalogue, Item};

mod rehearsal;
use rehearsal::{Rehearsal, catalogue, proposed};

const ROUNDS: usize = 10;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/verify/recorded").join(name)
}

/// The records of a log.
fn records(log: &Path) -> Vec<Record> {
    let mut reader = Reader::open(log).unwrap();
    std::iter::from_fn(|| reader.next_frame().unwrap().map(|frame| frame.record)).collect()
}

fn open(bytes: &[u8]) -> Payload {
    let envelope: Envelope = wire::decode(bytes, PROOF_BYTES_MAX).unwrap();
    wire::decode(&envelope.payload, PROOF_BYTES_MAX).unwrap()
}

/// Has a swarm play, and keeps the log of the peer with the lowest key, as its program writes it.
fn record(log: &Path) {
    let mut rehearsal = Rehearsal::new(5);
    rehearsal.play(2);
    rehearsal.propose(&proposed("rivers"), &[0, 1, 2, 3, 4].map(|place| (place, true)));
    rehearsal.propose(&proposed("hills"), &[(4, true), (0, false), (2, false)]);
    rehearsal.play(3);
    rehearsal.equivocate(1);
    rehearsal.play(ROUNDS);
    let (key, identity) = rehearsal.identities.iter().next().unwrap();
    let (mut log, _) = Writer::open(log, identity, &rehearsal.manifest).unwrap();
    rehearsal.logs[key].iter().for_each(|record| log.append(record).unwrap());
    log.close().unwrap();
}

/// The packs of the recorded swarm, with the one that it takes in.
fn with_proposed() -> Catalogue {
    let mut catalogue = catalogue();
    catalogue.set_aside(proposed("rivers"));
    catalogue
}

/// JSON: reference answers of the rounds, by the statements that started them, and where each prompt stands in its
/// family; all answers are whole numbers.
fn answers(settled: &[Settled]) -> String {
    let packs = with_proposed();
    let rivers = [(proposed("rivers").id(), 1)].into();
    let packs = packs.with(&rivers).unwrap();
    let answer = |item: &Item| {
        let (rank, ranks) = packs.rank(item).unwrap();
        let (answer, family) = (item.gold().unwrap().answer(), item.family());
        format!(
            "{{\"form\": \"integer\", \"answer\": \"{answer}\", \"stage\": [\"{family}\", {rank}, {ranks}]}}"
        )
    };
    let line = |settled: &Settled| {
        let answers: Vec<String> = settled.schedule.iter().map(answer).collect();
        format!("  \"{}\": [{}]", settled.start, answers.join(", "))
    };
    let lines: Vec<String> = settled.iter().map(line).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

struct Followed {
    settled: Vec<Settled>,
    offenders: Vec<PeerKey>,
}

/// A peer that only follows, and what it makes of the recorded messages.
fn follow(log: &Path) -> Followed {
    let records = records(log);
    let Some((Record::Header(header), records)) = records.split_first() else { panic!("no header") };
    let manifest: Manifest = wire::decode(&header.manifest, usize::MAX).unwrap();
    let stranger = Identity::from_seed([99; 32]);
    let setup = Setup {
        identity: stranger.clone(),
        manifest,
        catalogue: with_proposed(),
        ready: false,
        defences: swarm::engine::Defences::default(),
        addresses: Vec::new(),
        entropy: [0; 32],
        numerics: String::new(),
        ticket: None,
        resume: Resume::default(),
    };
    let mut engine = Engine::new(setup, 0).unwrap();
    let (mut settled, mut offenders) = (Vec::new(), Vec::new());
    for (now, record) in (1..).zip(records) {
        let bytes = match record {
            Record::Message { envelope, .. } => envelope.clone(),
            Record::Certificate { certificate } => carried(&engine, certificate),
            Record::Body { blob, bytes } => {
                engine.handle(now, Input::Fetched { blob: *blob, bytes: bytes.clone() });
                continue;
            }
            _ => continue,
        };
        engine.receive(now, open(&bytes).kind.topic(), &bytes);
        while let Some(output) = engine.poll() {
            match output {
                Output::Settled(of) => settled.push(*of),
                Output::Event(Event::Equivocated { peer, .. }) => offenders.push(peer),
                _ => {}
            }
        }
    }
    Followed { settled, offenders }
}

/// A certificate in a message, which anybody may send.
fn carried(engine: &Engine, certificate: &[u8]) -> Vec<u8> {
    let sender = Identity::from_seed([98; 32]);
    let swarm = Hash(engine.swarm().0);
    let payload = wire::encode(&Payload {
        version: PROTOCOL,
        swarm,
        kind: Kind::Certificate,
        round: 0,
        start: swarm,
        sender: sender.public(),
        sequence: 1,
        body: certificate.to_vec(),
    });
    let signature = wire::Sig(sender.sign(swarm::message::ENVELOPE_DOMAIN, &payload));
    wire::encode(&Envelope { payload, signature })
}

/// JSON: what the rounds came to.
fn outcome(settled: &[Settled], offenders: &[PeerKey]) -> String {
    let mut text = String::from("{\n  \"rounds\": [\n");
    for (at, of) in settled.iter().enumerate() {
        let rewards = |peer: &PeerKey| -> u32 {
            let of_peer = of.settlement.prompts.iter().filter_map(|prompt| prompt.rewards.get(peer));
            of_peer.flatten().map(|reward| u32::from(*reward)).sum()
        };
        let rewards: Vec<String> =
            of.roster.iter().map(|peer| format!("\"{}\": {}", peer.hex(), rewards(peer))).collect();
        let weights = &of.settlement.weights;
        let weights: Vec<String> =
            weights.iter().map(|(peer, weight)| format!("\"{}\": {weight}", peer.hex())).collect();
        let (round, view, statement) = (of.round, of.view, of.statement);
        let end = if at + 1 < settled.len() { "," } else { "" };
        writeln!(
            text,
            "    {{\n      \"round\": {round}, \"view\": {view}, \"statement\": \"{statement}\",\n      \
             \"rewards\": {{{}}},\n      \"weights\": {{{}}}\n    }}{end}",
            rewards.join(", "),
            weights.join(", ")
        )
        .unwrap();
    }
    let offenders: Vec<String> = offenders.iter().map(|peer| format!("\"{}\"", peer.hex())).collect();
    writeln!(text, "  ],\n  \"offenders\": [{}]\n}}", offenders.join(", ")).unwrap();
    text
}

#[test]
fn the_recorded_run_settles_as_it_did() {
    let log = path("log");
    if std::env::var_os("MURMUR_RECORD").is_some() {
        fs::create_dir_all(path("")).unwrap();
        let _ = fs::remove_file(&log);
        record(&log);
        let Followed { settled, offenders } = follow(&log);
        fs::write(path("outcome.json"), outcome(&settled, &offenders)).unwrap();
        fs::write(path("answers.json"), answers(&settled)).unwrap();
    }
    let read = |name: &str| fs::read(path(name)).expect("recorded with MURMUR_RECORD=1");
    let Followed { settled, offenders } = follow(&log);
    assert!(settled.len() >= ROUNDS - 1 && offenders.len() == 1, "{} {offenders:?}", settled.len());
    assert_eq!(outcome(&settled, &offenders).as_bytes(), read("outcome.json"));
    assert_eq!(answers(&settled).as_bytes(), read("answers.json"));
    let replayed = Replay::open(Reader::open(&log).unwrap()).unwrap().run(with_proposed(), None).unwrap();
    let of = |settled: &Settled| (settled.round, settled.statement);
    assert!(replayed.rounds.iter().map(|round| (round.round, round.statement)).eq(settled.iter().map(of)));
    let [conviction] = replayed.convictions[..] else { panic!("{:?}", replayed.convictions) };
    assert!(conviction.proven && offenders == [conviction.peer] && replayed.closed);
    let bodies = records(&log).iter().filter(|record| matches!(record, Record::Body { .. })).count();
    assert!(bodies > 0, "answers too long for a message");
    let outcomes: Vec<PackOutcome> =
        settled.iter().flat_map(|settled| settled.settlement.packs.values().copied()).collect();
    for outcome in [PackOutcome::Proposed, PackOutcome::Accepted, PackOutcome::Refused] {
        assert!(outcomes.contains(&outcome), "{outcomes:?}");
    }
    let drawn = settled.iter().flat_map(|settled| &settled.schedule).any(|item| item.family() == "rivers");
    assert!(drawn && settled.iter().any(|settled| !settled.settlement.levels.is_empty()), "levels move");
}
