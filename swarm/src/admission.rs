//! From bytes to a message that may be used, one type a level of trust:
//! bytes → [`Authentic`] (well formed, of this swarm, signed by its author) → [`Admitted`] (a body
//! within the manifest's bounds).
//!
//! *Reject* only what every honest peer would reject from the bytes alone; gossipsub then penalises
//! the peer that forwarded it. What depends on clock, view or membership is *ignored*: dropped,
//! counted and not forwarded. The verdict never waits for the model.

use judge::PeerKey;

use crate::defences::Defences;
use crate::identity;
use crate::limits::{
    ADDRESS_BYTES_MAX, ADDRESSES_MAX, ENVELOPE_BYTES_MAX, INLINE_BYTES_MAX, PROOF_BYTES_MAX, PROTOCOL,
    REASON_BYTES_MAX, TEXT_BYTES_MAX, TEXT_CRITIQUES_MAX,
};
use crate::manifest::Manifest;
use crate::message::{
    Ballot, Certificate, Commit, Critique, ENVELOPE_DOMAIN, Envelope, Kind, Payload, Presence, Proposal,
    Reveal, Signature, TextCritique,
};
use crate::proof::{Offence, Proof};
use crate::topic::{SwarmId, Topic};
use crate::wire::{self, Hash};

/// Bytes of the name of a numerics profile.
const NUMERICS_BYTES_MAX: usize = 32;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Wrong from the bytes alone.
    Reject(&'static str),
    /// Of no use to this peer now.
    Ignore(&'static str),
    /// Seen before or overtaken: the normal course of gossip, counted but not worth telling.
    Known(&'static str),
}

impl Refusal {
    /// Why, in words.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Reject(reason) | Self::Ignore(reason) | Self::Known(reason) => reason,
        }
    }
}

/// A payload that its author signed.
#[derive(Clone, Debug)]
pub struct Authentic {
    /// The payload.
    pub payload: Payload,
    /// Hash of the payload's bytes: the message's name.
    pub id: Hash,
    /// The envelope as received, for peers that ask for it.
    pub bytes: Vec<u8>,
}

/// An authentic message with its body.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Author.
    pub sender: PeerKey,
    /// Round it belongs to.
    pub round: u32,
    /// Hash of the statement that started the round.
    pub start: Hash,
    /// Rising per author.
    pub sequence: u32,
    /// Hash of the payload.
    pub id: Hash,
    /// The envelope as received.
    pub bytes: Vec<u8>,
    /// The body.
    pub body: Body,
}

/// Bodies by kind.
#[derive(Clone, Debug)]
pub enum Body {
    /// See [`Presence`].
    Presence(Presence),
    /// See [`Commit`].
    Commit(Commit),
    /// See [`Reveal`].
    Reveal(Reveal),
    /// See [`Critique`].
    Critique(Critique),
    /// See [`Ballot`].
    Ballot(Ballot),
    /// See [`Proposal`].
    Proposal(Proposal),
    /// See [`Signature`].
    Signature(Signature),
    /// See [`Certificate`].
    Certificate(Certificate),
    /// What a [`Proof`] that verifies proves.
    Proof(Proof, Offence),
}

/// Checks size, form, swarm, topic and signature.
///
/// # Errors
/// Always [`Refusal::Reject`]: everything here follows from the bytes alone.
pub fn authenticate(swarm: &SwarmId, topic: Option<Topic>, bytes: &[u8]) -> Result<Authentic, Refusal> {
    authenticate_under(Defences::default(), swarm, topic, bytes)
}

/// [`authenticate`] with some defences down.
pub(crate) fn authenticate_under(
    defences: Defences,
    swarm: &SwarmId,
    topic: Option<Topic>,
    bytes: &[u8],
) -> Result<Authentic, Refusal> {
    let max = topic.map_or(PROOF_BYTES_MAX, Topic::bytes_max);
    if bytes.len() > max {
        return Err(Refusal::Reject("larger than its topic allows"));
    }
    let envelope: Envelope = wire::decode(bytes, max).map_err(|_| Refusal::Reject("malformed envelope"))?;
    let payload: Payload =
        wire::decode(&envelope.payload, max).map_err(|_| Refusal::Reject("malformed payload"))?;
    if payload.version != PROTOCOL {
        return Err(Refusal::Reject("another protocol version"));
    }
    if defences.swarms && payload.swarm.0 != swarm.0 {
        return Err(Refusal::Reject("of another swarm"));
    }
    if bytes.len() > payload.kind.topic().bytes_max() {
        return Err(Refusal::Reject("larger than its topic allows"));
    }
    if topic.is_some_and(|topic| topic != payload.kind.topic()) {
        return Err(Refusal::Reject("on the wrong topic"));
    }
    let signed = identity::verify(&payload.sender, ENVELOPE_DOMAIN, &envelope.payload, &envelope.signature.0);
    if defences.signatures && !signed {
        return Err(Refusal::Reject("signature does not match its author"));
    }
    let id = Hash::of("murmur v1 message", &[&envelope.payload]);
    Ok(Authentic { payload, id, bytes: bytes.to_vec() })
}

/// Decodes the body and checks it against the manifest's bounds.
///
/// # Errors
/// Always [`Refusal::Reject`]: the manifest is the same for every peer of the swarm.
pub fn admit(manifest: &Manifest, message: Authentic) -> Result<Admitted, Refusal> {
    admit_under(Defences::default(), manifest, message)
}

/// [`admit`] with some defences down.
pub(crate) fn admit_under(
    defences: Defences,
    manifest: &Manifest,
    message: Authentic,
) -> Result<Admitted, Refusal> {
    let Authentic { payload, id, bytes } = message;
    let body = decode_body(&payload)?;
    check(defences, manifest, &body).map_err(Refusal::Reject)?;
    if let Body::Presence(Presence { ticket: Some(ticket), .. }) = &body
        && defences.tickets
        && (ticket.guest != payload.sender || !ticket.verifies(&SwarmId(payload.swarm.0)))
    {
        return Err(Refusal::Reject("a ticket that is not its sender's"));
    }
    let Payload { sender, round, start, sequence, .. } = payload;
    Ok(Admitted { sender, round, start, sequence, id, bytes, body })
}

fn decode_body(payload: &Payload) -> Result<Body, Refusal> {
    fn read<T: serde::de::DeserializeOwned>(bytes: &[u8], wrap: fn(T) -> Body) -> Result<Body, Refusal> {
        wire::decode(bytes, ENVELOPE_BYTES_MAX).map(wrap).map_err(|_| Refusal::Reject("malformed body"))
    }
    let bytes = &payload.body[..];
    match payload.kind {
        Kind::Presence => read(bytes, Body::Presence),
        Kind::Commit => read(bytes, Body::Commit),
        Kind::Reveal => read(bytes, Body::Reveal),
        Kind::Critique => read(bytes, Body::Critique),
        Kind::Ballot => read(bytes, Body::Ballot),
        Kind::Proposal => read(bytes, Body::Proposal),
        Kind::Signature => read(bytes, Body::Signature),
        Kind::Certificate => read(bytes, Body::Certificate),
        Kind::Proof => {
            let proof: Proof =
                wire::decode(bytes, PROOF_BYTES_MAX).map_err(|_| Refusal::Reject("malformed body"))?;
            let offence = proof.verify(&SwarmId(payload.swarm.0));
            let offence = offence.map_err(|_| Refusal::Reject("a proof that proves nothing"))?;
            Ok(Body::Proof(proof, offence))
        }
    }
}

fn check(defences: Defences, manifest: &Manifest, body: &Body) -> Result<(), &'static str> {
    match body {
        Body::Presence(presence) => check_presence(presence),
        Body::Reveal(reveal) => check_reveal(defences, manifest, reveal),
        Body::Critique(critique) => {
            check_lists(manifest, &critique.prompts, |score| score.candidate)?;
            let in_range = |millinats: i16| (judge::CRITIQUE_MIN..=0).contains(&millinats);
            let all = critique.prompts.iter().flatten().all(|score| in_range(score.millinats));
            all.then_some(()).ok_or("a critique outside −4000 to 0 milli-nats")?;
            check_audits(manifest, critique.audits.is_some())?;
            check_texts(manifest, &critique.texts)
        }
        Body::Ballot(ballot) => {
            check_lists(manifest, &ballot.prompts, |share| share.candidate)?;
            let sum =
                |shares: &[crate::message::Share]| shares.iter().map(|s| u32::from(s.permille)).sum::<u32>();
            let all = ballot.prompts.iter().all(|shares| sum(shares) <= u32::from(judge::BALLOT_FULL));
            all.then_some(()).ok_or("a ballot of more than 1000 permille")?;
            check_audits(manifest, ballot.audits.is_some())?;
            let findings = ballot.audits.as_ref().map_or(&[][..], |opened| &opened.findings);
            let rising = findings.windows(2).all(|pair| pair[0].peer < pair[1].peer);
            rising.then_some(()).ok_or("findings not in rising order of peers")?;
            let rising = ballot.packs.windows(2).all(|pair| pair[0].pack < pair[1].pack);
            rising.then_some(()).ok_or("packs not in rising order")?;
            let weights = 1..=judge::PACK_WEIGHT_MAX;
            let all = ballot.packs.iter().all(|vote| weights.contains(&vote.weight));
            all.then_some(()).ok_or("a pack of no weight, or of too much")
        }
        Body::Commit(commit) => check_offer(manifest, commit),
        Body::Proposal(_) | Body::Signature(_) | Body::Certificate(_) | Body::Proof(..) => Ok(()),
    }
}

fn check_audits(manifest: &Manifest, said: bool) -> Result<(), &'static str> {
    let none = manifest.judge.audit.share_permille == 0;
    if said && none { Err("a word on audits in a swarm without them") } else { Ok(()) }
}

fn check_offer(manifest: &Manifest, commit: &Commit) -> Result<(), &'static str> {
    let rules = &manifest.judge.audit;
    check_audits(manifest, commit.audit.is_some())?;
    match &commit.audit {
        None if rules.required && rules.share_permille > 0 => {
            Err("a commit without weights in a swarm that audits everybody")
        }
        Some(offer) if !(1..=rules.bytes_max).contains(&offer.weights.len) => {
            Err("larger weights than the manifest allows")
        }
        _ => Ok(()),
    }
}

fn check_presence(presence: &Presence) -> Result<(), &'static str> {
    let addresses = &presence.addresses;
    let fit = addresses.len() <= ADDRESSES_MAX
        && addresses.iter().all(|address| address.len() <= ADDRESS_BYTES_MAX)
        && presence.leaving.as_ref().is_none_or(|reason| reason.len() <= TEXT_BYTES_MAX);
    if !fit {
        return Err("a presence with too many or too long texts");
    }
    Ok(())
}

fn check_reveal(defences: Defences, manifest: &Manifest, reveal: &Reveal) -> Result<(), &'static str> {
    if reveal.prompt >= manifest.round.prompts {
        return Err("a reveal beyond the manifest's prompts");
    }
    if reveal.numerics.len() > NUMERICS_BYTES_MAX {
        return Err("a reveal with too long a text");
    }
    check_completions(manifest, &reveal.completions)?;
    match &reveal.body {
        None => {
            let bytes: usize = reveal.completions.iter().map(String::len).sum();
            (bytes <= INLINE_BYTES_MAX).then_some(()).ok_or("a reveal with completions that belong in a body")
        }
        Some(_) if !reveal.completions.is_empty() => Err("a reveal with both completions and a body"),
        Some(_) if !defences.lengths => Ok(()),
        // One form for each list of completions, and nothing beyond the manifest is ever fetched.
        Some(body) => (INLINE_BYTES_MAX + 1..=manifest.body_bytes_max())
            .contains(&(body.blob.len as usize))
            .then_some(())
            .ok_or("a body longer than the manifest allows, or short enough for the reveal itself"),
    }
}

/// Whether these may be a peer's completions to one prompt.
pub(crate) fn check_completions(manifest: &Manifest, completions: &[String]) -> Result<(), &'static str> {
    let rules = &manifest.round;
    if completions.len() > usize::from(rules.completions) {
        return Err("more completions than the manifest allows");
    }
    let too_long = |text: &String| text.len() > usize::from(rules.completion_bytes_max);
    if completions.iter().any(too_long) {
        return Err("a longer completion than the manifest allows");
    }
    Ok(())
}

fn check_texts(manifest: &Manifest, texts: &[Vec<TextCritique>]) -> Result<(), &'static str> {
    check_lists(manifest, texts, |text| text.candidate)?;
    let all = || texts.iter().flatten();
    if manifest.round.critiques.is_off() && all().next().is_some() {
        return Err("a text critique in a swarm without them");
    }
    if all().count() > usize::from(TEXT_CRITIQUES_MAX) {
        return Err("more text critiques than a peer may write");
    }
    let too_long = |text: &TextCritique| text.reason.len() > REASON_BYTES_MAX;
    if all().any(|text| too_long(text) || text.reason.contains(char::is_control)) {
        return Err("a text critique with a reason that is too long or has control characters");
    }
    Ok(())
}

/// Lists of candidates: no more prompts and entries than the manifest can lead to, candidates rising.
fn check_lists<T>(
    manifest: &Manifest,
    prompts: &[Vec<T>],
    candidate: impl Fn(&T) -> judge::CandidateId,
) -> Result<(), &'static str> {
    if prompts.len() > usize::from(manifest.round.prompts) {
        return Err("more prompts than the manifest has");
    }
    let rising = |list: &Vec<T>| list.windows(2).all(|pair| candidate(&pair[0]) < candidate(&pair[1]));
    prompts.iter().all(rising).then_some(()).ok_or("candidates not in rising order")
}
