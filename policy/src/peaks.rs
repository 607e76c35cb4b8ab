//! What this machine can do at best: matrix products on data in cache, and reading memory.
//!
//! A measured time means little without them: a step is judged by the share of these peaks that it
//! reaches.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::kernel::stream::sum_words;
use crate::kernel::{Left, Out, PANEL, Panels, panels_len, product};
use crate::team::Team;

/// Bytes that are read: many times what a shared cache holds.
const READ_BYTES: usize = 512 * 1024 * 1024;
/// Passes over them; the fastest counts.
const READ_PASSES: usize = 5;
/// Shapes of the product, rows × outputs × inputs: both factors fit into a core's own cache.
const SHAPES: [[usize; 3]; 3] = [[96, 64, 256], [192, 128, 128], [48, 256, 256]];
/// Windows a product is repeated in; the fastest counts.
const WINDOWS: usize = 5;
/// Length of one.
const WINDOW: Duration = Duration::from_millis(20);

/// The most that a number of threads of this machine reach together. Other work at the same time lowers it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// Floating-point operations a second in matrix products; a multiplication with its addition is two.
    pub flops: f64,
    /// Bytes a second read from memory.
    pub bytes: f64,
}

impl Peaks {
    /// Measures for about a second; takes 512 MiB for the time being. 0 threads means one for each core.
    ///
    /// # Errors
    /// More threads than the system gives.
    pub fn measure(threads: usize) -> Result<Self> {
        let team = Team::new(threads)?;
        let flops = SHAPES.into_iter().map(|shape| product_rate(&team, shape)).fold(0.0, f64::max);
        Ok(Self { flops, bytes: read_rate(&team) })
    }
}

/// Operations a second of all threads, each with matrices of its own.
fn product_rate(team: &Team, [rows, outputs, inputs]: [usize; 3]) -> f64 {
    let work = || {
        let (left, right) = (vec![1.0f32; rows * inputs], vec![1.0f32; panels_len(outputs, inputs)]);
        (left, right, vec![0.0f32; rows * outputs])
    };
    let repeat = |times: usize, (left, right, out): &mut (Vec<f32>, Vec<f32>, Vec<f32>)| {
        for _ in 0..times {
            let panels = Panels::new(right, outputs, inputs);
            product(Out::rows(out, outputs), Left::rows(left, rows, inputs), panels, false);
            black_box(&mut *out);
        }
    };
    let mut all: Vec<_> = (0..team.threads()).map(|_| work()).collect();
    let started = Instant::now();
    let mut times = 0;
    while started.elapsed() < WINDOW {
        repeat(1, &mut all[0]);
        times += 1;
    }
    let operations = (2 * rows * outputs.next_multiple_of(PANEL) * inputs * times * team.threads()) as f64;
    let fastest = fastest(WINDOWS, || team.each(all.iter_mut().collect(), |work| repeat(times, work)));
    operations / fastest
}

/// Bytes a second of all threads, each with its part of one buffer.
fn read_rate(team: &Team) -> f64 {
    let words = READ_BYTES / size_of::<u64>();
    let mut buffer = vec![0u64; words];
    let part = words.div_ceil(team.threads());
    // Written first: untouched pages are not in memory yet.
    team.each(buffer.chunks_mut(part).collect(), |part| part.fill(1));
    let pass = || {
        black_box(team.map(buffer.chunks(part).collect(), sum_words));
    };
    READ_BYTES as f64 / fastest(READ_PASSES, pass)
}

/// Seconds of the fastest of some runs.
fn fastest(runs: usize, mut run: impl FnMut()) -> f64 {
    let seconds = |_| {
        let started = Instant::now();
        run();
        started.elapsed().as_secs_f64()
    };
    (0..runs).map(seconds).fold(f64::INFINITY, f64::min)
}
