//! One module a tab; each draws a scene into an area and keeps nothing.

pub(super) mod learning;
pub(super) mod logs;
pub(super) mod network;
pub(super) mod overview;
pub(super) mod round;
pub(super) mod swarm;
pub(super) mod tasks;
