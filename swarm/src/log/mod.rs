//! The log of a peer: everything a round was settled by, append-only, for anybody to fold again.
//!
//! # On disk
//!
//! A log is a sequence of frames, `u32 length ‖ u32 complement of length ‖ body ‖ 8 bytes of checksum`, integers
//! little endian. A body is one [`Record`] in MessagePack. Frames are chained: with `c₀ = 0` and
//! `cₖ = H("murmur v1 log"; cₖ₋₁, bodyₖ)` the checksum is the first 8 bytes of `cₖ`. A frame that the file ends
//! within is a *torn tail*, which a killed process leaves: it is cut on open, counted and told. A complete frame whose
//! length and complement or whose checksum disagree is *damage*, and never cut: a byte flipped anywhere is found, in
//! the last record as well. Zeros up to the end count as torn (some file systems leave them after a power cut).
//!
//! The first record is the [`Header`]. Every start appends [`Record::Opened`] and [`Record::Learner`]; then follow
//! messages, bodies, proofs, certificates and training steps as they were taken. After every certificate, and at a
//! clean end, the peer signs a [`Seal`] over the chain. Presence, proposals and loose signatures are not here: nothing
//! that is recomputed depends on them.
//!
//! # What is protected, by what
//!
//! * An envelope by its author's signature, a certificate by a quorum's: not even the log's owner can change them.
//! * A body by its hash, which a signed reveal names.
//! * That none is missing: a certificate names its messages by hash, and its parent. A conviction that the owner signed
//!   has its proof before it.
//! * Marks that only this peer made (late, its training steps, gaps), the order of records and that none was added:
//!   by the owner's signature on the chain. A seal also carries a short digest of each part of each record before it,
//!   so that a reader can say which one was changed.
//! * A log of a run that ended well ends with a closing seal; without it, records at the end may be missing.
//!
//! Not protected: what the owner says of itself alone (it can sign another story of its training, and of what came
//! late), the frames after the last seal of a killed peer beyond their own signatures, and a whole start cut off
//! behind a closing seal, which only the logs of others show.
//!
//! # When it is on disk
//!
//! Every record is handed to the system in one write before the engine's next output is performed, so that a killed
//! process loses nothing of what it said. The file is synced with every seal. What a peer must never sign twice does
//! not depend on it: the signed view and the newest certificate are synced in a file of their own before anything is
//! sent ([`crate::engine::Persist`]), and a peer that starts again says nothing more in the round it was in. What it
//! takes back from its log all the same is in [`Recall`].

mod frame;
mod reader;
mod recall;
mod record;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

pub use frame::{LogError, RECORD_BYTES_MAX};
pub use reader::{Frame, Reader, Torn};
pub use recall::{RECALL_BYTES_MAX, Recall};
pub use record::{Header, Part, Record, Seal, Training};
pub use writer::{Opening, Writer};

pub(crate) use record::{MARK_BYTES, SEAL_DOMAIN};
