//! What the dishonest characters do, by what they abuse.

mod bodies;
mod members;
mod noise;
mod rewind;
mod slots;
mod views;
mod votes;

pub(super) use bodies::{Bombs, Poison, SwapBodies, WithholdBodies};
pub(super) use members::{Crowd, Intrude, Undead};
pub(super) use noise::{Flood, Forge, Garbage, Oversize, Replay};
pub(super) use rewind::Rewind;
pub(super) use slots::{Copy, TwoMessages, Withhold};
pub(super) use views::{ForgeCertificates, Hide, Silence, Twist, TwoStatements, Usurp};
pub(super) use votes::Ring;
