//! Every bound of the protocol in one place, each with what happens when it is reached.
//!
//! A bound that depends on the swarm (prompts a round, completions a prompt) lives in the
//! [`Manifest`](crate::manifest::Manifest), which checks itself against the ceilings here.

/// Protocol version spoken by this crate; another version is a different swarm.
pub const PROTOCOL: u32 = 2;

/// Peers in a roster. A proposer leaves further candidates out until somebody leaves.
pub const ROSTER_MAX: usize = 256;
/// Signatures of a certificate: every member of the three rosters that may have to sign one; a longer list is refused.
pub const SIGNATURES_MAX: usize = 3 * ROSTER_MAX;
/// Peers whose presence is remembered; beyond it strangers are ignored until one expires.
pub const PRESENCE_MAX: usize = 1024;
/// Prompts of a round; a manifest asking for more is refused.
pub const PROMPTS_MAX: u16 = 256;
/// Siblings in a Merkle proof over the prompts of a round.
pub const PROOF_MAX: usize = PROMPTS_MAX.next_power_of_two().trailing_zeros() as usize;
/// Completions a peer gives to one prompt; a manifest asking for more is refused.
pub const COMPLETIONS_MAX: u16 = 64;
/// Bytes of one completion; a manifest asking for more is refused. Nobody parses a longer one.
pub const COMPLETION_BYTES_MAX: u16 = 16 * 1024;
/// Bytes of a peer's completions to all prompts of a round; a manifest asking for more is refused. A peer holds
/// twice as much of every member: the round in progress and the one before.
pub const ANSWERS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of completions, encoded, that travel inside a reveal. Longer ones are a body that the reveal names: gossip
/// carries a message to every peer several times, a body is fetched once.
pub const INLINE_BYTES_MAX: usize = 16 * 1024;
/// Bodies that a peer fetches at once; the rest wait their turn.
pub const FETCHES_MAX: usize = 64;
/// Bodies of one author fetched at once, so that a slow author delays nobody else's.
pub const FETCHES_PER_AUTHOR_MAX: usize = 16;
/// Peers named to fetch one body from; the next attempt names others.
pub const HOLDERS_MAX: usize = 8;
/// Bytes of a question about a task pack; a longer one is none.
pub const PACK_REQUEST_BYTES_MAX: usize = 256;
/// Bytes of the answer.
pub const PACK_ANSWER_BYTES_MAX: usize = 256;
/// Bytes of a question about policies; a longer one is none.
pub const POLICY_REQUEST_BYTES_MAX: usize = 256;
/// Bytes of the answer; offers that do not fit are left out.
pub const POLICY_ANSWER_BYTES_MAX: usize = 900 * 1024;
/// Offers in one answer; a longer list is refused.
pub const OFFERS_MAX: usize = 4;
/// Bytes of one envelope, proofs apart; larger ones are rejected.
pub const ENVELOPE_BYTES_MAX: usize = 64 * 1024;
/// Room that envelope and payload take around a body.
pub const ENVELOPE_OVERHEAD_BYTES: usize = 512;
/// Bytes of an envelope with a proof of equivocation: two of the largest envelopes and what is around them.
pub const PROOF_BYTES_MAX: usize = 2 * (ENVELOPE_BYTES_MAX + ENVELOPE_OVERHEAD_BYTES);
/// Room that an envelope and a reveal take besides the completions themselves.
pub const REVEAL_OVERHEAD_BYTES: usize = 2048;

/// Critics that a candidate is assigned to, where there are text critiques; more would write the same again.
pub const CRITICS_PER_CANDIDATE: u16 = 2;
/// Text critiques of one critic in one round; a message with more is rejected.
pub const TEXT_CRITIQUES_MAX: u16 = 16;
/// Bytes of the reason in a text critique; a message with a longer one is rejected.
pub const REASON_BYTES_MAX: usize = 256;
/// Bytes that a text critique takes on the wire besides its reason.
pub const TEXT_CRITIQUE_OVERHEAD_BYTES: usize = 64;

/// Planted cases that one ballot opens: of the round before, and of one under dispute.
pub const PLANTED_MAX: usize = 2;

/// Messages kept that belong to the next round (a peer may be one certificate ahead).
/// Beyond it they are dropped and counted; the repair request brings them back.
pub const EARLY_MESSAGES_MAX: usize = 8192;
/// Bytes of those messages.
pub const EARLY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Rounds of one author among them: of the next round, and of the same on another branch.
pub const EARLY_ROUNDS_MAX: usize = 3;
/// Views of one peer whose signatures are kept; beyond it the oldest of that peer is forgotten.
pub const SIGNED_VIEWS_MAX: usize = 8;
/// Proposals and signatures of one peer that are passed on within [`HEARTBEAT_MS`]: one of each a view, and views of a
/// thirtieth of a second. Further ones are used, but not passed on.
pub const SHARE_MESSAGES: usize = 64;
/// Bytes of those messages.
pub const SHARE_BYTES: usize = 2 * ENVELOPE_BYTES_MAX;
/// Peers that a statement convicts, and peers whose proofs are kept; further offenders are not convicted, but kept
/// out by everybody who sees the proof.
pub const OFFENDERS_MAX: usize = 256;
/// Bytes of proposals and signatures of one peer that are kept to be compared with later ones; the oldest go.
pub const HEARD_BYTES_MAX: usize = 96 * 1024;
/// Proposals held while the items they include are still on their way.
pub const PROPOSALS_MAX: usize = PROPOSALS_EACH * ROSTER_MAX;
/// Proposals of one peer among them; beyond it that of its oldest view is forgotten.
pub const PROPOSALS_EACH: usize = 2;
/// Statements for which signatures are collected at once.
pub const STATEMENTS_MAX: usize = 32;
/// Certificates kept for peers that catch up, newest first kept.
pub const CHAIN_MAX: usize = 16_384;
/// Certificates above the newest final one whose branches are compared; beyond it the oldest is forgotten, and
/// asked for again when something builds on it.
pub const BRANCHES_MAX: usize = 64;
/// Repair requests that a chain longer than one answer is followed for without getting on; then it is sought anew: it
/// may be of a branch that nobody is on any more.
pub const PURSUIT_ASKS_MAX: u32 = 32;
/// Views before a checkpoint from which certificates are asked for: they say who may sign after it.
pub const CHECKPOINT_VIEWS: u32 = 32;
/// Certificates in one repair answer; the asker asks again for the rest.
pub const REPAIR_CERTIFICATES_MAX: usize = 128;
/// Bytes of one repair answer.
pub const REPAIR_BYTES_MAX: usize = 768 * 1024;
/// Envelopes in one repair answer: more than [`REPAIR_BYTES_MAX`] holds of the smallest; a longer list is refused.
pub const REPAIR_ENVELOPES_MAX: usize = 4096;
/// Payload hashes in one repair request; without the rest the answer repeats some messages.
pub const REPAIR_HAVE_MAX: usize = 1500;

/// Bytes of a leaving reason and of one address in a presence message.
pub const TEXT_BYTES_MAX: usize = 128;
/// Addresses in a presence message.
pub const ADDRESSES_MAX: usize = 8;
/// Bytes of each; one by IPv6, QUIC and a relay point has 134.
pub const ADDRESS_BYTES_MAX: usize = 192;

/// Outputs waiting for the caller; reaching it is a bug of the caller (it must drain `poll`).
pub const OUTPUTS_MAX: usize = 16_384;

/// Milliseconds between heartbeats in a swarm of at most [`HEARTBEAT_PEERS`]; more in a larger one.
pub const HEARTBEAT_MS: u64 = 1_000;
/// From so many peers on, heartbeats slow down with the size of the roster.
pub const HEARTBEAT_PEERS: u64 = 16;
/// Heartbeats of one peer that count within [`HEARTBEAT_MS`]; further ones are not passed on. Meeting others makes a
/// peer say more than one.
pub const HEARTBEATS_MAX: u32 = 8;
/// A newcomer this many views behind may enter the roster: the others then wait for it, which lets it
/// catch up even where rounds are faster than repair.
pub const BEHIND_VIEWS_MAX: u32 = 32;
/// A peer unheard for so many heartbeats is not proposed for the next roster.
pub const SILENT_HEARTBEATS: u64 = 6;
/// A swarm that is `available` goes on without a quorum when there was no certificate for this long.
pub const DEGRADED_AFTER_MS: u64 = 20_000;
/// Shortest time between two repair requests to anybody.
pub const REPAIR_EVERY_MS: u64 = 300;
/// Shortest deadline of a phase that waits for messages only.
pub const PHASE_FLOOR_MS: u64 = 500;
/// Phase durations remembered for the adaptive deadline.
pub const DURATIONS_MAX: usize = 9;

const _: () = assert!(INLINE_BYTES_MAX + REVEAL_OVERHEAD_BYTES < ENVELOPE_BYTES_MAX);
const _: () = assert!(COMPLETION_BYTES_MAX as usize == tasks::COMPLETION_BYTES_MAX);
// A megabyte a prompt, and what its encoding adds.
const _: () = assert!(
    COMPLETIONS_MAX as usize * (COMPLETION_BYTES_MAX as usize + 5) + 5 <= crate::blob::BLOB_BYTES_MAX
);
// A quarter of the largest message: the scores beside them, which the vote needs, keep the rest.
const _: () = assert!(
    TEXT_CRITIQUES_MAX as usize * (REASON_BYTES_MAX + TEXT_CRITIQUE_OVERHEAD_BYTES) < ENVELOPE_BYTES_MAX / 4
);
const _: () = assert!(SILENT_HEARTBEATS >= 3, "one lost heartbeat is not silence");
