//! Buffers that are used again.
//!
//! A step touches the same large buffers over and over; handing their pages back to the system in
//! between costs as much as the arithmetic of a small model. Micro-batches differ by some rows, so a buffer
//! that is a little too small is replaced by one that fits: a small request that took a large buffer instead
//! would leave the next large one without, until all buffers are large.

/// Buffers that wait for their next use.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Vec<Vec<f32>>,
}

impl Buffers {
    /// A buffer of `len` values of any content.
    pub(crate) fn take(&mut self, len: usize) -> Vec<f32> {
        let mut buffer = self.nearest(len).map(|at| self.free.swap_remove(at)).unwrap_or_default();
        if buffer.capacity() < len {
            buffer = Vec::with_capacity(len);
        }
        buffer.resize(len, 0.0);
        buffer
    }

    /// Place of the buffer to use or to replace: one of about this size, or else the smallest that is larger.
    fn nearest(&self, len: usize) -> Option<usize> {
        let places = || self.free.iter().map(Vec::capacity).enumerate().map(|(at, capacity)| (capacity, at));
        let larger = || places().filter(|(capacity, _)| *capacity >= len).min();
        let fits = larger().filter(|(capacity, _)| *capacity <= len.saturating_add(len / 4));
        let grows = || places().filter(|(capacity, _)| *capacity < len && *capacity >= len - len / 4).max();
        fits.or_else(grows).or_else(larger).map(|(_, at)| at)
    }

    /// A buffer of zeros.
    pub(crate) fn zeros(&mut self, len: usize) -> Vec<f32> {
        let mut buffer = self.take(len);
        buffer.fill(0.0);
        buffer
    }

    /// Takes a buffer back.
    pub(crate) fn give(&mut self, buffer: Vec<f32>) {
        if buffer.capacity() > 0 {
            self.free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back() {
        let mut buffers = Buffers::default();
        let big = buffers.take(1000);
        let at = big.as_ptr();
        buffers.give(big);
        buffers.give(vec![1.0; 10]);
        assert_eq!(buffers.take(5).len(), 5);
        buffers.give(vec![1.0; 300]);
        let again = buffers.zeros(900);
        assert_eq!((again.as_ptr(), again.len()), (at, 900));
        assert!(again.iter().all(|value| *value == 0.0));
    }

    #[test]
    fn rows_more_or_less_do_not_make_every_buffer_large() {
        let mut buffers = Buffers::default();
        for rows in [100, 101, 99, 103, 30, 102, 104, 7, 104] {
            let taken: Vec<_> = [1, 8, 1, 8, 1, 8].map(|width| buffers.take(rows * width)).into();
            taken.into_iter().for_each(|buffer| buffers.give(buffer));
        }
        let held: usize = buffers.free.iter().map(Vec::capacity).sum();
        assert_eq!((buffers.free.len(), held), (6, 104 * 27));
    }
}
