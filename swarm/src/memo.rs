//! Results of signature checks, remembered while a simulation runs on this thread.
//!
//! A swarm of n simulated peers checks every message n times in one process. Whether a signature is its author's
//! over some bytes is a pure function of the three, so remembering the answer changes no outcome; only the time
//! it takes. Outside a simulation nothing is remembered, and every check is made.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::wire::Hash;

/// Results remembered; beyond it all are forgotten and checked again.
const REMEMBERED_MAX: usize = 1 << 17;

thread_local! {
    static MEMO: RefCell<Option<Memo>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Memo {
    known: HashMap<Hash, bool>,
    counts: Counts,
}

/// How often checks were asked for and made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Signatures made; what was signed here needs no check.
    pub(crate) signed: u64,
    /// Checks asked for.
    pub(crate) asked: u64,
    /// Checks made.
    pub(crate) checked: u64,
}

/// Remembers from its making until it is dropped.
pub(crate) struct Remembering(());

impl Remembering {
    /// Starts with nothing remembered on this thread.
    pub(crate) fn start() -> Self {
        MEMO.with_borrow_mut(|memo| *memo = Some(Memo::default()));
        Self(())
    }

    /// What was asked and done so far.
    pub(crate) fn counts(&self) -> Counts {
        MEMO.with_borrow(|memo| memo.as_ref().map_or_else(Counts::default, |memo| memo.counts))
    }
}

impl Drop for Remembering {
    fn drop(&mut self) {
        MEMO.with_borrow_mut(|memo| *memo = None);
    }
}

fn name(peer: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> Hash {
    Hash::of("murmur v1 remembered check", &[peer, signature, message])
}

impl Memo {
    fn insert(&mut self, name: Hash, valid: bool) {
        if self.known.len() >= REMEMBERED_MAX {
            self.known.clear();
        }
        self.known.insert(name, valid);
    }
}

/// What `check` says of this signature, made at most once while results are remembered.
pub(crate) fn recall(
    peer: &[u8; 32],
    message: &[u8],
    signature: &[u8; 64],
    check: impl FnOnce() -> bool,
) -> bool {
    MEMO.with_borrow_mut(|memo| {
        let Some(memo) = memo else { return check() };
        memo.counts.asked += 1;
        let name = name(peer, message, signature);
        if let Some(valid) = memo.known.get(&name) {
            return *valid;
        }
        memo.counts.checked += 1;
        let valid = check();
        memo.insert(name, valid);
        valid
    })
}

/// A signature made on this thread is valid without a check.
pub(crate) fn signed(peer: impl FnOnce() -> [u8; 32], message: &[u8], signature: &[u8; 64]) {
    MEMO.with_borrow_mut(|memo| {
        if let Some(memo) = memo {
            memo.counts.signed += 1;
            memo.insert(name(&peer(), message, signature), true);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_made_once_while_remembering_and_always_otherwise() {
        let made = std::cell::Cell::new(0);
        let ask = |valid: bool, text: &[u8]| {
            recall(&[1; 32], text, &[2; 64], || {
                made.set(made.get() + 1);
                valid
            })
        };
        assert!(ask(true, b"a") && ask(true, b"a"));
        assert_eq!(made.get(), 2, "nothing is remembered outside a simulation");
        let remembering = Remembering::start();
        assert!(ask(true, b"a") && ask(true, b"a") && !ask(false, b"b") && !ask(false, b"b"));
        assert_eq!(made.get(), 4);
        assert_eq!(remembering.counts(), Counts { signed: 0, asked: 4, checked: 2 });
        drop(remembering);
        assert!(!ask(false, b"a"), "forgotten");
    }
}
