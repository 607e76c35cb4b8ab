//! Whole swarms in virtual time: the same engine that runs live, under faults and attacks.
//!
//! A [`Plan`] names everything, its seed included, and the same plan gives the same trace. Time passes from event
//! to event. Every peer has its own clock, which starts anywhere within a minute and runs up to 10 % fast or slow;
//! messages take their time, get lost, doubled and overtaken; peers crash between any two outputs and come back
//! with exactly what they had written. Dishonest peers own real keys and can say anything under them. Meanwhile
//! invariants are checked: see [`INVARIANTS`].
//!
//! Messages go straight from author to each receiver; nobody forwards. That is harder on a swarm than gossip,
//! where a message that one honest peer has reaches all: here only repair closes the gap.
//!
//! Reading order: `plan` (what is asked), `fault` and `attack` (what goes wrong), `world` (the queue and
//! the engines), `storm` (when faults come and go), `watch` and `ledger` (what must hold), `report`.

mod adversary;
mod attack;
mod attacks;
mod censor;
mod clock;
mod defence;
mod dice;
mod fault;
mod ledger;
mod measure;
mod network;
mod plan;
mod policy;
mod queue;
mod report;
mod seat;
mod setting;
mod storm;
mod tally;
mod watch;
mod world;
mod zoo;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use attack::{Attack, Outcome};
pub use defence::Defence;
pub use fault::Fault;
pub use measure::Measures;
pub use plan::{Plan, tolerated};
pub use report::{Failure, Report, Run, SimulationError};
pub use watch::{INVARIANTS, Violation};
pub use zoo::{Trial, ZOO_SEED, table, zoo};

/// Plays one plan.
///
/// # Errors
/// A swarm that cannot be set up.
pub fn play(plan: &Plan) -> Result<Run, SimulationError> {
    world::World::new(plan.clone(), setting::Setting::of(plan))?.play()
}

/// Plays a plan with `seeds` seeds from its own on, on `threads` threads; the runs come in the order of seeds.
///
/// # Errors
/// A swarm that cannot be set up.
pub fn play_seeds(plan: &Plan, seeds: usize, threads: usize) -> Result<Vec<Run>, SimulationError> {
    shared(seeds, threads, |nth| play(&Plan { seed: plan.seed.wrapping_add(nth as u64), ..plan.clone() }))
}

/// The results of `of(0)` to `of(count - 1)`, in order, computed by several threads.
fn shared<T: Send>(
    count: usize,
    threads: usize,
    of: impl Fn(usize) -> Result<T, SimulationError> + Sync,
) -> Result<Vec<T>, SimulationError> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(count));
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, count.max(1)) {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth >= count {
                        break;
                    }
                    let result = of(nth);
                    // A poisoned lock still holds what the other threads put there.
                    results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((nth, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_by_key(|(nth, _)| *nth);
    results.into_iter().map(|(_, result)| result).collect()
}
