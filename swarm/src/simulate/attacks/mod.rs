//! What the dishonest characters do, by what they abuse.

mod noise;
mod slots;
mod views;
mod votes;

pub(super) use noise::{Flood, Forge, Garbage, Oversize, Replay};
pub(super) use slots::{Copy, TwoMessages, Withhold};
pub(super) use views::{Cook, Ghosts, Hide, Silence, TwoStatements, Usurp};
pub(super) use votes::Ring;
