//! Which chunk is asked of whom. No IO.
//!
//! Chunks are asked for in runs, in order, each of one source. When none is left to ask for, a source with nothing
//! to do is asked for what another one has been owing for a while, from the end, where a slow source comes last: so
//! the last chunks wait for the slowest source no longer than for the fastest.

use std::ops::Range;

use libp2p::PeerId;
use tokio::time::Instant;

use super::limits;

/// Runs that what is missing should at least make.
const RUNS_LEFT: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    Todo,
    Asked { of: PeerId, also: Option<PeerId>, at: Instant },
    Here,
}

/// What a source is to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Give these.
    Run(Range<u32>),
    /// Nothing before then, unless something changes.
    Wait(Instant),
    /// Everything is here.
    Done,
}

/// All chunks of a download.
pub(super) struct Plan {
    chunks: Vec<Chunk>,
    missing: usize,
}

impl Plan {
    pub(super) fn new(chunks: u32) -> Self {
        Self { chunks: vec![Chunk::Todo; chunks as usize], missing: chunks as usize }
    }

    pub(super) fn is_done(&self) -> bool {
        self.missing == 0
    }

    pub(super) fn next(&mut self, of: PeerId, now: Instant) -> Next {
        if self.is_done() {
            return Next::Done;
        }
        let todo = |chunk: &Chunk| *chunk == Chunk::Todo;
        if let Some(first) = self.chunks.iter().position(todo) {
            // Short runs towards the end, so that no source is left with many while the others are idle.
            let most = (self.missing / RUNS_LEFT).clamp(1, limits::RUN_CHUNKS_MAX as usize);
            let run = self.chunks[first..].iter().take(most);
            let run = first..first + run.take_while(|chunk| todo(chunk)).count();
            self.chunks[run.clone()].fill(Chunk::Asked { of, also: None, at: now });
            return Next::Run(run.start as u32..run.end as u32);
        }
        let mut sooner = now + limits::CHUNK_DOUBTED_AFTER;
        for (index, chunk) in self.chunks.iter_mut().enumerate().rev() {
            let Chunk::Asked { of: first, also: also @ None, at } = chunk else { continue };
            let doubted = *at + limits::CHUNK_DOUBTED_AFTER;
            if *first != of && doubted <= now {
                *also = Some(of);
                return Next::Run(index as u32..index as u32 + 1);
            }
            if *first != of {
                sooner = sooner.min(doubted);
            }
        }
        Next::Wait(sooner)
    }

    /// A chunk is here; whether it was not before.
    pub(super) fn arrived(&mut self, index: u32) -> bool {
        match self.chunks.get_mut(index as usize) {
            None | Some(Chunk::Here) => false,
            Some(chunk) => {
                *chunk = Chunk::Here;
                self.missing -= 1;
                true
            }
        }
    }

    /// A source will not give what it owes of a run.
    pub(super) fn released(&mut self, run: Range<u32>, by: PeerId) {
        for index in run {
            let Some(chunk) = self.chunks.get_mut(index as usize) else { return };
            let Chunk::Asked { of, also, .. } = chunk else { continue };
            match also {
                Some(second) if *second == by => *also = None,
                Some(second) if *of == by => {
                    *of = *second;
                    *also = None;
                }
                None if *of == by => *chunk = Chunk::Todo,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_asked_of_one_source_and_again_when_it_is_released() {
        let (a, b, now) = (PeerId::random(), PeerId::random(), Instant::now());
        let most = limits::RUN_CHUNKS_MAX;
        let all = 20 * most;
        let mut plan = Plan::new(all);
        assert_eq!(plan.next(a, now), Next::Run(0..most));
        assert_eq!(plan.next(b, now), Next::Run(most..2 * most));
        assert!(plan.arrived(0) && !plan.arrived(0) && !plan.arrived(all));
        plan.released(0..most, a);
        assert_eq!(plan.next(b, now), Next::Run(1..most), "what is here is asked of nobody");
        let mut runs = Vec::new();
        while let Next::Run(run) = plan.next(a, now) {
            runs.push(run.len());
            run.for_each(|index| assert!(plan.arrived(index)));
        }
        assert!(runs.is_sorted_by(|a, b| a >= b) && runs.last() == Some(&1), "{runs:?}");
        assert_eq!(plan.next(a, now), Next::Wait(now + limits::CHUNK_DOUBTED_AFTER));
        (1..2 * most).for_each(|index| assert!(plan.arrived(index)));
        assert_eq!(plan.next(a, now), Next::Done);
    }

    #[test]
    fn what_a_slow_source_owes_is_asked_of_another_one_from_the_end_and_once() {
        let (slow, fast, start) = (PeerId::random(), PeerId::random(), Instant::now());
        let mut plan = Plan::new(3);
        (0..3).for_each(|index| assert_eq!(plan.next(slow, start), Next::Run(index..index + 1)));
        let later = start + limits::CHUNK_DOUBTED_AFTER;
        assert_eq!(plan.next(fast, start), Next::Wait(later));
        assert!(matches!(plan.next(slow, later), Next::Wait(_)), "not of the same one");
        for index in [2, 1, 0] {
            assert_eq!(plan.next(fast, later), Next::Run(index..index + 1));
        }
        assert!(matches!(plan.next(fast, later), Next::Wait(_)));
        plan.released(0..3, slow);
        assert!(matches!(plan.next(fast, later), Next::Wait(_)), "the second one still owes it");
        plan.released(2..3, fast);
        assert_eq!(plan.next(slow, later), Next::Run(2..3));
        (0..3).for_each(|index| assert!(plan.arrived(index)));
        assert!(plan.is_done());
    }
}
