//! Threads that share one piece of work.
//!
//! Work is split into items that own what they write, so which thread does an item, and how many
//! threads there are, changes nothing but the time.

use std::sync::Arc;

use rayon::prelude::*;

use crate::error::{PolicyError, Result};

/// Most threads of one policy.
pub const THREADS_MAX: usize = 256;

/// A number of threads; one means the caller's own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Team {
    pool: Option<Arc<rayon::ThreadPool>>,
}

impl Team {
    /// A team of `threads`; 0 means one for each core.
    ///
    /// # Errors
    /// More than [`THREADS_MAX`], or more than the system gives.
    pub(crate) fn new(threads: usize) -> Result<Self> {
        let available = || std::thread::available_parallelism().map_or(1, |n| n.get().min(THREADS_MAX));
        let threads = if threads == 0 { available() } else { threads };
        if threads > THREADS_MAX {
            let what = format!("{threads} threads where at most {THREADS_MAX} are used");
            return Err(PolicyError::input(what, "ask for fewer threads"));
        }
        if threads == 1 {
            return Ok(Self::default());
        }
        let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = builder.thread_name(|n| format!("policy-{n}")).build().map_err(|error| {
            PolicyError::input(format!("no threads to compute with: {error}"), "ask for fewer threads")
        })?;
        Ok(Self { pool: Some(Arc::new(pool)) })
    }

    /// Number of threads.
    pub(crate) fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, |pool| pool.current_num_threads())
    }

    /// Runs `f` where [`Self::each`] starts without waking anybody.
    pub(crate) fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(f),
            None => f(),
        }
    }

    /// Does every item, in any order, and returns when all are done.
    pub(crate) fn each<T: Send>(&self, items: Vec<T>, f: impl Fn(T) + Sync + Send) {
        match &self.pool {
            Some(pool) if items.len() > 1 => {
                pool.install(|| items.into_par_iter().with_max_len(1).for_each(f));
            }
            _ => items.into_iter().for_each(f),
        }
    }

    /// As [`Self::each`], with results in the items' order.
    pub(crate) fn map<T: Send, R: Send>(&self, items: Vec<T>, f: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
        match &self.pool {
            Some(pool) if items.len() > 1 => {
                pool.install(|| items.into_par_iter().with_max_len(1).map(f).collect())
            }
            _ => items.into_iter().map(f).collect(),
        }
    }
}
