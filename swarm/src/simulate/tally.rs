//! What actually happened in a simulation, counted.

use std::collections::BTreeMap;

use super::fault::Fault;

/// Counts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) faults: BTreeMap<&'static str, u64>,
    pub(super) attacks: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(super) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault.name()).or_default() += 1;
    }

    pub(super) fn attack(&mut self, name: &'static str) {
        *self.attacks.entry(name).or_default() += 1;
    }
}
