//! What actually happened in a simulation, counted.

use std::collections::BTreeMap;

use super::fault::Fault;
use crate::topic::Topic;

/// Counts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) faults: BTreeMap<&'static str, u64>,
    pub(super) attacks: BTreeMap<&'static str, u64>,
    /// Messages and bytes that peers said.
    pub(super) said: BTreeMap<Topic, [u64; 2]>,
}

impl Tally {
    pub(super) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault.name()).or_default() += 1;
    }

    pub(super) fn said(&mut self, topic: Topic, bytes: usize) {
        let [messages, sum] = self.said.entry(topic).or_default();
        *messages += 1;
        *sum += bytes as u64;
    }

    pub(super) fn attack(&mut self, name: &'static str) {
        *self.attacks.entry(name).or_default() += 1;
    }
}
