//! Scratch space that a thread uses again.
//!
//! Items of work need a few hundred kilobytes for moments at a time. Allocators hand such blocks back to
//! the system soon, and getting cleared pages for them again costs as much as the arithmetic.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use crate::buffers::Buffers;

thread_local! {
    static FREE: RefCell<Buffers> = RefCell::default();
}

/// A buffer of this thread, given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Scratch(Vec<f32>);

impl Scratch {
    /// `len` values of any content.
    pub(crate) fn new(len: usize) -> Self {
        Self(FREE.with_borrow_mut(|free| free.take(len)))
    }

    /// `len` values of any content, where the buffer is large enough the same memory.
    pub(crate) fn renew(&mut self, len: usize) {
        if self.0.capacity() < len {
            *self = Self::new(len);
        }
        self.0.resize(len, 0.0);
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // A thread that ends may have dropped its free buffers already.
        let _ = FREE.try_with(|free| free.borrow_mut().give(buffer));
    }
}
