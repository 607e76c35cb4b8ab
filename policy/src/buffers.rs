//! Buffers that are used again.
//!
//! A step touches the same large buffers over and over; handing their pages back to the system in
//! between costs as much as the arithmetic of a small model.

/// Buffers that wait for their next use.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Vec<Vec<f32>>,
}

impl Buffers {
    /// A buffer of `len` values of any content.
    pub(crate) fn take(&mut self, len: usize) -> Vec<f32> {
        let fits = |buffer: &&Vec<f32>| buffer.capacity() >= len;
        let best = self.free.iter().filter(fits).map(Vec::capacity).min();
        let best = best.or_else(|| self.free.iter().map(Vec::capacity).max());
        let at = best.and_then(|best| self.free.iter().position(|buffer| buffer.capacity() == best));
        let mut buffer = at.map(|at| self.free.swap_remove(at)).unwrap_or_default();
        if buffer.capacity() < len {
            buffer = Vec::with_capacity(len);
        }
        buffer.resize(len, 0.0);
        buffer
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
        let again = buffers.zeros(900);
        assert_eq!((again.as_ptr(), again.len()), (at, 900));
        assert!(again.iter().all(|value| *value == 0.0));
    }
}
