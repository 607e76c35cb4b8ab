//! Events in virtual time, earliest first, in the order of their making among equals.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::rc::Rc;

use crate::engine::Input;
use crate::topic::Topic;

/// A gossiped message, shared by all that receive it.
pub(super) struct Message {
    pub(super) from: usize,
    pub(super) topic: Topic,
    pub(super) bytes: Vec<u8>,
}

/// Something that happens at a seat.
pub(super) enum Happening {
    /// A gossiped message arrives.
    Gossip(Rc<Message>),
    /// A request for repair arrives.
    Request { from: usize, bytes: Vec<u8> },
    /// Its answer arrives.
    Answer { from: usize, bytes: Vec<u8> },
    /// Work asked for in a life is done.
    Work { life: u32, input: Input },
    /// The engine's deadline.
    Wake,
    /// It starts, or starts again.
    Start,
    /// It stops.
    Stop,
    /// It is to stop after this many more outputs.
    Cut(u64),
    /// Faults begin (at no seat in particular).
    Storm,
    /// Faults end.
    Calm,
}

impl Happening {
    /// A number for the trace.
    pub(super) fn tag(&self) -> u8 {
        match self {
            Self::Gossip(_) => 0,
            Self::Request { .. } => 1,
            Self::Answer { .. } => 2,
            Self::Work { .. } => 3,
            Self::Wake => 4,
            Self::Start => 5,
            Self::Stop => 6,
            Self::Cut(_) => 7,
            Self::Storm => 8,
            Self::Calm => 9,
        }
    }

    /// What distinguishes it in the trace.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Gossip(message) => &message.bytes,
            Self::Request { bytes, .. } | Self::Answer { bytes, .. } => bytes,
            _ => &[],
        }
    }
}

struct Entry {
    at_ms: u64,
    order: u64,
    seat: usize,
    happening: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The heap gives the greatest first, so what comes earlier is greater.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_ms, other.order).cmp(&(self.at_ms, self.order))
    }
}

/// The queue.
#[derive(Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Entry>,
    order: u64,
}

impl Queue {
    pub(super) fn push(&mut self, at_ms: u64, seat: usize, happening: Happening) {
        self.order += 1;
        self.heap.push(Entry { at_ms, order: self.order, seat, happening });
    }

    /// When, where and what happens next.
    pub(super) fn pop(&mut self) -> Option<(u64, usize, Happening)> {
        self.heap.pop().map(|entry| (entry.at_ms, entry.seat, entry.happening))
    }
}
