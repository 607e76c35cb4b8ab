//! Whatever bytes a stranger sends: no decoder panics, and none takes more memory than a stated multiple of what it
//! was given. One allocator counts for the whole binary, so its tests take turns.
//!
//! The seed is printed. `DECODER_SEED=<seed> cargo test --release -p murmur-swarm --test decoders` replays it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use judge::PeerKey;
use peak_alloc::PeakAlloc;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;
use swarm::admission::{self, Authentic};
use swarm::blob::{Address, BlobAnswer, BlobRequest, CHUNK_BYTES, Part};
use swarm::chain::Place;
use swarm::engine::{Persist, Resume};
use swarm::identity::Identity;
use swarm::limits::{
    COMPLETION_BYTES_MAX, COMPLETIONS_MAX, ENVELOPE_BYTES_MAX, PACK_ANSWER_BYTES_MAX, PACK_REQUEST_BYTES_MAX,
    PROOF_BYTES_MAX, PROTOCOL, REPAIR_BYTES_MAX,
};
use swarm::log::{RECORD_BYTES_MAX, Record, Seal};
use swarm::manifest::Manifest;
use swarm::membership::Ticket;
use swarm::message::{
    Ballot, BodyRef, Certificate, Commit, Completions, Critique, ENVELOPE_DOMAIN, Envelope, Kind, Payload,
    Presence, Proposal, RepairAnswer, RepairRequest, Reveal, Score, Signature, Statement, answers_leaf,
};
use swarm::packs::{PackAnswer, PackRequest};
use swarm::proof::{Evidence, Proof};
use swarm::topic::Topic;
use swarm::wire::{self, DecodeError, Hash, Sig};

mod rehearsal;
use rehearsal::{Rehearsal, proposed};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Heap that one decode may take at its peak, as a multiple of the bytes decoded…
const GROWTH_MAX: usize = 20;
/// …and besides: error texts, first nodes of maps, room for the shortest lists.
const BASE_BYTES: usize = 16 * 1024;
/// The most completions that a manifest allows, each of the most bytes, and a head for each and for all.
const BODY_BYTES_MAX: usize = COMPLETIONS_MAX as usize * (COMPLETION_BYTES_MAX as usize + 3) + 3;
/// Mutated inputs of the large test.
const INPUTS: usize = 1_000_000;

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `decode` on `bytes` and returns what it says and the most heap it held, in bytes.
fn weighed<T>(bytes: &[u8], decode: impl FnOnce(&[u8]) -> T) -> (T, usize) {
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    let result = black_box(decode(black_box(bytes)));
    (result, HEAP.peak_usage().saturating_sub(before))
}

/// One type on the wire (or in a file that came over it) and the most bytes of it that are ever decoded.
struct Decoder {
    name: &'static str,
    bytes_max: usize,
    decodes: fn(&[u8], usize) -> bool,
}

fn decoder<T: DeserializeOwned>(name: &'static str, bytes_max: usize) -> Decoder {
    Decoder { name, bytes_max, decodes: |bytes, max| black_box(wire::decode::<T>(bytes, max)).is_ok() }
}

impl Decoder {
    fn check(&self, bytes: &[u8], context: &dyn Fn() -> String) -> bool {
        let weigh = || weighed(bytes, |bytes| (self.decodes)(bytes, self.bytes_max));
        let bound = GROWTH_MAX * bytes.len() + BASE_BYTES;
        let (decoded, mut peak) = weigh();
        // The heap is the whole process's, and the test harness has a thread too: what a decode takes, it takes again.
        for _ in 0..2 {
            if peak > bound {
                peak = weigh().1;
            }
        }
        assert!(peak <= bound, "{}: {peak} bytes for {} ({})", self.name, bytes.len(), context());
        decoded
    }
}

fn decoders() -> Vec<Decoder> {
    let envelope = ENVELOPE_BYTES_MAX;
    vec![
        decoder::<Envelope>("envelope", envelope),
        decoder::<Payload>("payload", envelope),
        decoder::<Presence>("presence", envelope),
        decoder::<Commit>("commit", envelope),
        decoder::<Reveal>("reveal", envelope),
        decoder::<Critique>("critique", envelope),
        decoder::<Ballot>("ballot", envelope),
        decoder::<Proposal>("proposal", envelope),
        decoder::<Signature>("signature", envelope),
        decoder::<Certificate>("certificate", envelope),
        decoder::<Statement>("statement", envelope),
        decoder::<Proof>("proof", PROOF_BYTES_MAX),
        decoder::<RepairRequest>("repair request", envelope),
        decoder::<RepairAnswer>("repair answer", 2 * REPAIR_BYTES_MAX),
        decoder::<judge::State>("state", REPAIR_BYTES_MAX),
        decoder::<judge::Settlement>("settlement", REPAIR_BYTES_MAX),
        decoder::<BlobRequest>("blob request", envelope),
        decoder::<BlobAnswer>("blob answer", 2 * CHUNK_BYTES),
        decoder::<PackRequest>("pack request", PACK_REQUEST_BYTES_MAX),
        decoder::<PackAnswer>("pack answer", PACK_ANSWER_BYTES_MAX),
        decoder::<Completions>("completions", BODY_BYTES_MAX),
        decoder::<Ticket>("ticket", envelope),
        decoder::<Manifest>("manifest", envelope),
        decoder::<Resume>("resume", REPAIR_BYTES_MAX),
        decoder::<Place>("place", envelope),
        decoder::<Evidence>("evidence", PROOF_BYTES_MAX),
        decoder::<Record>("record", RECORD_BYTES_MAX),
    ]
}

/// Real bytes of every type, by the decoder's name; of a few rounds of a swarm of five.
fn samples() -> &'static BTreeMap<&'static str, Vec<Vec<u8>>> {
    static SAMPLES: OnceLock<BTreeMap<&'static str, Vec<Vec<u8>>>> = OnceLock::new();
    SAMPLES.get_or_init(rehearsed)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> T {
    wire::decode(body, ENVELOPE_BYTES_MAX).unwrap()
}

fn rehearsed() -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    let mut rehearsal = Rehearsal::new(5);
    rehearsal.play(2);
    rehearsal.equivocate(1);
    rehearsal.propose(&proposed("rivers"), &[0, 1, 2, 3, 4].map(|place| (place, true)));
    rehearsal.propose(&proposed("hills"), &[(4, true), (0, false)]);
    rehearsal.play(4);
    let mut samples: BTreeMap<&'static str, Vec<Vec<u8>>> = BTreeMap::new();
    let mut keep = |name, bytes: Vec<u8>| {
        let of_type = samples.entry(name).or_default();
        if of_type.len() < 100 && !of_type.contains(&bytes) {
            of_type.push(bytes);
        }
    };
    let (mut presence, mut reveal) = (None, None);
    let (mut audits, mut packs) = ([false; 3], false);
    for (_, bytes) in &rehearsal.published {
        let envelope: Envelope = wire::decode(bytes, PROOF_BYTES_MAX).unwrap();
        let payload: Payload = wire::decode(&envelope.payload, PROOF_BYTES_MAX).unwrap();
        if let Ok(proposal) = wire::decode::<Proposal>(&payload.body, ENVELOPE_BYTES_MAX)
            && payload.kind == Kind::Proposal
        {
            keep("statement", proposal.statement);
        }
        if payload.kind == Kind::Proof {
            let proof: Proof = wire::decode(&payload.body, PROOF_BYTES_MAX).unwrap();
            keep("evidence", wire::encode(&proof.first));
        }
        if payload.kind == Kind::Reveal {
            reveal = wire::decode::<Reveal>(&payload.body, ENVELOPE_BYTES_MAX).ok();
        }
        match payload.kind {
            Kind::Commit => audits[0] |= read::<Commit>(&payload.body).audit.is_some(),
            Kind::Critique => audits[1] |= read::<Critique>(&payload.body).audits.is_some(),
            Kind::Ballot => {
                let ballot = read::<Ballot>(&payload.body);
                audits[2] |= ballot.audits.is_some();
                packs |= !ballot.packs.is_empty();
            }
            _ => {}
        }
        if payload.kind == Kind::Presence {
            presence = wire::decode::<Presence>(&payload.body, ENVELOPE_BYTES_MAX).ok();
        }
        keep(name(payload.kind), payload.body);
        keep("payload", envelope.payload);
        keep("envelope", bytes.clone());
    }
    assert_eq!(audits, [true; 3], "offers, sealed findings and opened ones are among what is mutated");
    let state = &rehearsal.settled.values().flatten().last().unwrap().settlement.next;
    assert!(
        packs && !state.packs.is_empty() && !state.courses.is_empty(),
        "votes on packs, and what they come to"
    );
    for settled in rehearsal.settled.values().flatten() {
        keep("settlement", wire::encode(&settled.settlement));
    }
    for persist in rehearsal.persisted.values().flatten() {
        if let Persist::Head(head) = persist.clone() {
            keep("state", head.state.clone());
            keep("place", head.place.clone());
            keep("resume", wire::encode(&Resume { incarnation: 2, signed_view: 3, head }));
        }
    }
    for record in rehearsal.logs.values().flatten() {
        keep("record", wire::encode(record));
    }
    let swarm = Hash(rehearsal.manifest.id().0);
    let seal = Seal { records: 7, head: swarm, marks: vec![1; 400], closing: true, signature: Sig([2; 64]) };
    keep("record", wire::encode(&Record::Seal(seal)));
    for (view, have) in [(0, 0), (1, 3), (2, 40), (9, 0)] {
        let have = (0..have).map(|n| Hash([n; 32])).collect();
        let request = wire::encode(&RepairRequest { version: PROTOCOL, swarm, view, head: swarm, have });
        let engine = rehearsal.engines.values().next().unwrap();
        keep("repair answer", engine.serve(&request).unwrap());
        keep("repair request", request);
    }
    keep("manifest", wire::encode(&rehearsal.manifest));
    let texts = vec!["<answer>5</answer>".to_string(), "words ".repeat(900)];
    let body = wire::encode(&texts);
    let blob = Address::of(&body).unwrap();
    let body_ref = BodyRef { blob, leaf: answers_leaf(0, &texts) };
    let reveal = Reveal { completions: Vec::new(), body: Some(body_ref), ..reveal.unwrap() };
    keep("reveal", wire::encode(&reveal));
    keep("blob answer", wire::encode(&BlobAnswer::Part(ByteBuf::from(body.clone()))));
    keep("blob answer", wire::encode(&BlobAnswer::Absent));
    keep("blob answer", wire::encode(&BlobAnswer::Busy(70_000)));
    keep("blob request", wire::encode(&BlobRequest { blob, part: Part::Outline }));
    keep("blob request", wire::encode(&BlobRequest { blob, part: Part::Chunk(300) }));
    keep("pack request", PackRequest::of(&rehearsal.manifest.id(), &tasks::PackId([7; 32])));
    keep("pack answer", wire::encode(&PackAnswer { blob: Some(blob) }));
    keep("pack answer", wire::encode(&PackAnswer { blob: None }));
    keep("completions", body);
    let inviter = Identity::from_seed([1; 32]);
    let ticket = Ticket::sign(&inviter, &rehearsal.manifest.id(), inviter.public(), 9);
    keep("ticket", wire::encode(&ticket));
    keep("presence", wire::encode(&Presence { ticket: Some(ticket), ..presence.unwrap() }));
    samples
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Presence => "presence",
        Kind::Commit => "commit",
        Kind::Reveal => "reveal",
        Kind::Critique => "critique",
        Kind::Ballot => "ballot",
        Kind::Proposal => "proposal",
        Kind::Signature => "signature",
        Kind::Certificate => "certificate",
        Kind::Proof => "proof",
    }
}

/// SplitMix64: enough for tests, the same everywhere.
struct Chance(u64);

impl Chance {
    /// A fresh seed for each run, unless one is given.
    fn new() -> Self {
        let given = std::env::var("DECODER_SEED").ok();
        let given = given.map(|seed| seed.parse().expect("DECODER_SEED is a number"));
        let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_nanos() as u64);
        let seed = given.unwrap_or(clock);
        println!("replay: DECODER_SEED={seed} cargo test --release -p murmur-swarm --test decoders");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Changes `bytes` once; `other` is some other real message.
    fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len() + 1);
        let end = (at + self.below(64)).min(bytes.len());
        match self.below(9) {
            0 => drop(bytes.get_mut(at).map(|byte| *byte ^= 1 << self.below(8))),
            1 => drop(bytes.get_mut(at).map(|byte| *byte = self.next() as u8)),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let from = self.below(other.len());
                let to = (from + self.below(64)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            5 => {
                // A length where a value stood: of a list, a map, a text, bytes; of up to 2³² − 1.
                let length = [1, 0xff, 0xffff, 0xffff_ffff, self.next() as u32][self.below(5)];
                let marker = *self.pick(&[0xdd, 0xdf, 0xdb, 0xc6, 0xc9]);
                let head = [&[marker][..], &u32::to_be_bytes(length)].concat();
                bytes.splice(at..(at + 1).min(bytes.len()), head);
            }
            6 => {
                let container = *self.pick(&[0x91, 0x81, 0x90, 0x80, 0xa0, 0xc0]);
                let count = 1 << self.below(10);
                bytes.splice(at..at, std::iter::repeat_n(container, count));
            }
            7 => {
                let number =
                    [&[*self.pick(&[0xca, 0xcb, 0xcf, 0xd3])][..], &self.next().to_le_bytes()].concat();
                bytes.splice(at..(at + 1).min(bytes.len()), number);
            }
            _ => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
}

#[test]
fn a_million_mutated_messages_neither_panic_nor_take_memory() {
    let _alone = alone();
    let samples = samples();
    let decoders = decoders();
    for decoder in &decoders {
        for sample in &samples[decoder.name] {
            assert!(decoder.check(sample, &|| "unchanged".into()), "{}", decoder.name);
        }
    }
    let all: Vec<&Vec<u8>> = samples.values().flatten().collect();
    let mut chance = Chance::new();
    let mut decoded: BTreeMap<&str, usize> = BTreeMap::new();
    for input in 0..INPUTS {
        let decoder = chance.pick(&decoders);
        let own = chance.below(16) > 0;
        let mut bytes =
            if own { chance.pick(&samples[decoder.name]).clone() } else { (*chance.pick(&all)).clone() };
        for _ in 0..=chance.below(4) {
            let other = *chance.pick(&all);
            chance.mutate(&mut bytes, other);
        }
        if decoder.check(&bytes, &|| format!("input {input}")) {
            *decoded.entry(decoder.name).or_default() += 1;
        }
    }
    println!("still decoded: {decoded:?}");
    assert!(decoders.iter().all(|decoder| decoded.contains_key(decoder.name)), "{decoded:?}");
}

/// Mutated bodies under a good signature, which admission looks into.
#[test]
fn mutated_bodies_are_admitted_or_refused() {
    let _alone = alone();
    let samples = samples();
    let manifest = Rehearsal::new(5).manifest;
    let identity = Identity::from_seed([1; 32]);
    let kinds = [
        Kind::Presence,
        Kind::Commit,
        Kind::Reveal,
        Kind::Critique,
        Kind::Ballot,
        Kind::Proposal,
        Kind::Signature,
        Kind::Certificate,
        Kind::Proof,
    ];
    let mut chance = Chance::new();
    let (mut admitted, mut refused) = (0, 0);
    for _ in 0..100_000 {
        let kind = *chance.pick(&kinds);
        let mut body = chance.pick(&samples[name(kind)]).clone();
        let other = chance.pick(&samples[name(kind)]).clone();
        chance.mutate(&mut body, &other);
        let length = body.len();
        let payload = payload(&manifest, identity.public(), kind, body);
        let message = Authentic { payload, id: Hash::default(), bytes: Vec::new() };
        let (result, peak) = weighed(&[], |_| admission::admit(&manifest, message));
        assert!(peak <= GROWTH_MAX * length + BASE_BYTES, "{kind:?}: {peak} bytes for {length}");
        *if result.is_ok() { &mut admitted } else { &mut refused } += 1;
    }
    assert!(admitted > 1_000 && refused > 1_000, "both happen: {admitted} {refused}");
}

/// A ticket comes in as text that somebody pasted.
#[test]
fn mutated_tickets_as_text_are_read_or_refused() {
    let _alone = alone();
    let inviter = Identity::from_seed([1; 32]);
    let text = Ticket::sign(&inviter, &Rehearsal::new(5).manifest.id(), inviter.public(), 9).to_text();
    let mut chance = Chance::new();
    let mut read = 0;
    for _ in 0..100_000 {
        let mut bytes = text.clone().into_bytes();
        if chance.below(2) == 0 {
            // A digit for a digit: what is left to refuse is inside.
            let at = chance.below(bytes.len());
            bytes[at] = *chance.pick(b"0123456789abcdef");
        } else {
            chance.mutate(&mut bytes, text.as_bytes());
        }
        let text = String::from_utf8_lossy(&bytes);
        let (ticket, peak) = weighed(&bytes, |_| Ticket::from_text(&text));
        assert!(peak <= GROWTH_MAX * bytes.len() + BASE_BYTES, "{peak} bytes for {text}");
        read += usize::from(ticket.is_ok());
    }
    assert!(read > 1_000 && read < 99_000, "both happen: {read}");
}

fn payload(manifest: &Manifest, sender: PeerKey, kind: Kind, body: Vec<u8>) -> Payload {
    let swarm = Hash(manifest.id().0);
    Payload { version: PROTOCOL, swarm, kind, round: 1, start: swarm, sender, sequence: 1, body }
}

/// Every decoder with these bytes in place of the value, of its first field, and of a field that it does not know.
fn everywhere(value: &[u8], expected: impl Fn(&str, bool)) {
    let samples = samples();
    for decoder in decoders() {
        let sample = &samples[decoder.name][0];
        if decoder.name == "completions" {
            assert!(!decoder.check(value, &|| "whole".into()));
            continue; // a list, without fields
        }
        let fields = usize::from(sample[0] & 0x0f);
        let (key, after_key) = sample[1..].split_at(1 + usize::from(sample[1] & 0x1f));
        assert!(
            sample[0] & 0xf0 == 0x80 && key[0] & 0xe0 == 0xa0,
            "{} is a map with texts as keys",
            decoder.name
        );
        let first = [&sample[..1], key, value, after_key].concat();
        let unknown = [&[0x80 | (fields + 1) as u8, 0xa1, b'?'][..], value, &sample[1..]].concat();
        for (place, bytes) in [("whole", value.to_vec()), ("field", first), ("unknown field", unknown)] {
            let decoded = decoder.check(&bytes, &|| place.into());
            expected(&format!("{} {place}", decoder.name), decoded);
        }
    }
}

#[test]
fn deep_nesting_is_refused_wherever_it_stands() {
    let _alone = alone();
    for container in [&[0x91][..], &[0x81, 0xa0], &[0xdd, 0, 0, 0, 1], &[0xdf, 0, 0, 0, 1, 0xa0]] {
        let mut nested = container.repeat(100_000 / container.len());
        nested.truncate(60_000 / container.len() * container.len());
        nested.push(0xc0);
        everywhere(&nested, |place, decoded| assert!(!decoded, "{place}"));
        let many = container.repeat(100_000);
        everywhere(&many, |place, decoded| assert!(!decoded, "{place}"));
        // The thread of a network has little stack, and following this would need a lot.
        let small = std::thread::Builder::new().stack_size(64 * 1024);
        let decode = move || decoders().iter().any(|decoder| (decoder.decodes)(&nested, usize::MAX));
        assert!(!small.spawn(decode).unwrap().join().unwrap());
    }
}

#[test]
fn a_length_without_what_it_declares_is_refused_wherever_it_stands() {
    let _alone = alone();
    for marker in [0xdd, 0xdf, 0xdb, 0xc6, 0xc9] {
        let bomb = [marker, 0xff, 0xff, 0xff, 0xff];
        everywhere(&bomb, |place, decoded| assert!(!decoded, "{marker:x} {place}"));
    }
    for bomb in [[0xdc, 0xff, 0xff], [0xde, 0xff, 0xff], [0xda, 0xff, 0xff], [0xc5, 0xff, 0xff]] {
        everywhere(&bomb, |place, decoded| assert!(!decoded, "{bomb:x?} {place}"));
    }
}

/// The largest message that a topic takes, all of it empty lists and texts: each is a byte there and 24 in memory.
#[test]
fn a_message_of_empty_values_stays_small() {
    let _alone = alone();
    for (bytes_max, empty) in
        [(ENVELOPE_BYTES_MAX, 0x90), (ENVELOPE_BYTES_MAX, 0xa0), (2 * REPAIR_BYTES_MAX, 0xa0)]
    {
        let count = bytes_max - 512;
        let list = [&[0xdd][..], &(count as u32).to_be_bytes(), &vec![empty; count]].concat();
        everywhere(&list, |_, _| {});
        for field in
            ["prompts", "texts", "completions", "addresses", "envelopes", "certificates", "have", "roster"]
        {
            let key = [&[0x81, 0xa0 | field.len() as u8][..], field.as_bytes()].concat();
            let bytes = [&key[..], &list].concat();
            for decoder in decoders() {
                decoder.check(&bytes, &|| field.into());
            }
        }
    }
}

#[test]
fn bytes_after_the_value_are_refused() {
    let _alone = alone();
    let samples = samples();
    for decoder in decoders() {
        for extra in [&[0xc0][..], &[0], &samples[decoder.name][0]] {
            let bytes = [&samples[decoder.name][0][..], extra].concat();
            assert!(!(decoder.decodes)(&bytes, usize::MAX), "{}", decoder.name);
        }
    }
    let commit = wire::encode(&Commit { commitment: Hash([7; 32]), audit: None });
    let followed = [&commit[..], &[1, 2]].concat();
    assert_eq!(wire::decode::<Commit>(&followed, 1000), Err(DecodeError::Trailing(2)));
}

#[test]
fn a_field_may_stand_once_and_integers_are_no_floats() {
    let _alone = alone();
    let score = |key: &str, head: &[u8]| {
        let candidate = [&[0xa9][..], b"candidate", &[0xc4, 8], &[7; 8]].concat();
        [&[0x82][..], &candidate, &[0xa0 | key.len() as u8], key.as_bytes(), head].concat()
    };
    let read = |bytes: &[u8]| wire::decode::<Score>(bytes, 100).ok().map(|score| score.millinats);
    assert_eq!(read(&score("millinats", &[0xf6])), Some(-10));
    let twice = [&score("millinats", &[0xf6])[..], &[0xa9][..], b"millinats", &[0xf6]].concat();
    assert_eq!(read(&[&[0x83], &twice[1..]].concat()), None, "the same field twice");
    for float in [f32::NAN, -10.0] {
        assert_eq!(read(&score("millinats", &[&[0xca][..], &float.to_be_bytes()].concat())), None);
        let double = f64::from(float).to_be_bytes();
        assert_eq!(read(&score("millinats", &[&[0xcb][..], &double].concat())), None);
    }
}

/// Several forms of one value are read alike. Hashes and signatures cover the bytes, so no two forms pass for one
/// message, and a second form of an own message is a second message.
#[test]
fn other_forms_of_a_value_are_read_and_have_other_hashes() {
    let _alone = alone();
    #[derive(Serialize)]
    struct Fields(PeerKey, Sig);
    let identity = Identity::from_seed([1; 32]);
    let signed = swarm::message::Signed { peer: identity.public(), signature: Sig([3; 64]) };
    let as_map = wire::encode(&signed);
    let as_list = wire::encode(&Fields(signed.peer, signed.signature));
    assert_ne!(as_map, as_list);
    assert_eq!(wire::decode(&as_list, 200), Ok(signed));
    let long = [0xd3, 0, 0, 0, 0, 0, 0, 0, 5];
    assert_eq!(wire::decode::<u16>(&long, 9), Ok(5), "an integer in more bytes than it needs");

    let manifest = Rehearsal::new(5).manifest;
    let body = wire::encode(&Commit { commitment: Hash([7; 32]), audit: None });
    let other_body = [&[0x91], &body[body.len() - 34..]].concat();
    let ids = [body, other_body].map(|body| {
        let payload = wire::encode(&payload(&manifest, identity.public(), Kind::Commit, body));
        let signature = Sig(identity.sign(ENVELOPE_DOMAIN, &payload));
        let bytes = wire::encode(&Envelope { payload, signature });
        let message = admission::authenticate(&manifest.id(), Some(Topic::Answers), &bytes).unwrap();
        let id = message.id;
        admission::admit(&manifest, message).unwrap();
        id
    });
    assert_ne!(ids[0], ids[1]);
}
