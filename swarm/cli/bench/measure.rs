//! Timing work, and saying what came out.

use std::time::Instant;

use policy::memory::{self, Workload};
use policy::{Cost, Peaks, Policy, instruction_set};
use serde::Serialize;

use super::args::BenchArgs;
use crate::exit::Outcome;
use crate::printer::{self, Progress};
use crate::{clock, model};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    model: String,
    parameters: usize,
    threads: usize,
    instruction_set: String,
    #[serde(flatten)]
    settings: Settings,
    #[serde(flatten)]
    measured: Measured,
    /// Tokens sampled or predicted in a run.
    tokens: usize,
    tokens_per_s: f64,
    /// The peak that limits this work: "matrix" products or memory "bandwidth".
    peak: &'static str,
    /// Seconds that the work takes at the peaks, by seconds measured.
    share_of_peak: f64,
    /// The least operations of a run, in 10⁹.
    gflop: f64,
    matrix_gflop_per_s: f64,
    bandwidth_gb_per_s: f64,
}

/// What was asked for.
#[derive(Debug, Default, Serialize)]
pub(super) struct Settings {
    pub(super) batch: usize,
    pub(super) group: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prompt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) new: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) length: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) weights: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) checkpointing: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lora: Option<u16>,
}

/// Medians, and every run.
#[derive(Debug, Default, Serialize)]
pub(super) struct Measured {
    wall_s: f64,
    cpu_s: f64,
    /// Peak of the process.
    rss_mib: u64,
    /// The same before the model was loaded.
    rss_start_mib: u64,
    wall_s_each: Vec<f64>,
    /// The part of a step that samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout_s: Option<f64>,
    /// Of the first run and of the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<[f32; 2]>,
}

/// What one run tells besides its time.
#[derive(Clone, Copy, Default)]
pub(super) struct Run {
    pub(super) rollout_s: Option<f64>,
    pub(super) loss: Option<f32>,
}

/// A measurement. It does not hold the model: one that is trained would be copied beside it.
pub(super) struct Bench<'a> {
    args: &'a BenchArgs,
    parameters: usize,
    threads: usize,
    rss_start_mib: u64,
}

impl<'a> Bench<'a> {
    pub(super) fn open(args: &'a BenchArgs, workload: Workload) -> anyhow::Result<(Self, Policy)> {
        let rss_start_mib = clock::peak_memory_mib();
        let policy = model::open_without_text(&args.model)?.with_threads(args.threads.into())?;
        if let Some(available) = memory::available() {
            // The weights are in memory already.
            let held = 4 * policy.config().parameters() as u64;
            let workload = Workload { threads: policy.threads(), ..workload };
            memory::fits(policy.config(), &workload, available.saturating_add(held))?;
        }
        let (parameters, threads) = (policy.config().parameters(), policy.threads());
        Ok((Self { args, parameters, threads, rss_start_mib }, policy))
    }

    /// Times runs after one that is not counted.
    pub(super) fn measure(
        &self,
        what: &str,
        mut run: impl FnMut() -> anyhow::Result<Run>,
    ) -> anyhow::Result<Measured> {
        let mut progress = Progress::new();
        progress.show(|| format!("{what}: warming up"));
        let first = run()?;
        let (mut walls, mut cpus, mut rollouts) = (Vec::new(), Vec::new(), Vec::new());
        let mut last = first;
        for done in 0..self.args.repeat {
            progress.show(|| format!("{what}: run {} of {}", done + 1, self.args.repeat));
            let (started, cpu) = (Instant::now(), clock::cpu_seconds());
            last = run()?;
            walls.push(started.elapsed().as_secs_f64());
            cpus.push(clock::cpu_seconds() - cpu);
            rollouts.extend(last.rollout_s);
        }
        progress.finish(&format!("{what}: {} runs measured", self.args.repeat));
        Ok(Measured {
            wall_s: median(&walls),
            cpu_s: median(&cpus),
            rss_mib: clock::peak_memory_mib(),
            rss_start_mib: self.rss_start_mib,
            rollout_s: (!rollouts.is_empty()).then(|| median(&rollouts)),
            loss: first.loss.zip(last.loss).map(|(first, last)| [first, last]),
            wall_s_each: walls,
        })
    }

    /// Measures the peaks and prints the result.
    pub(super) fn report(
        &self,
        bench: &'static str,
        settings: Settings,
        measured: Measured,
        tokens: usize,
        costs: &[Cost],
    ) -> anyhow::Result<Outcome> {
        let peaks = Peaks::measure(self.args.threads.into())?;
        let least: Vec<(f64, bool)> = costs.iter().map(|cost| cost.seconds(&peaks)).collect();
        let seconds: f64 = least.iter().map(|(seconds, _)| seconds).sum();
        let reading: f64 = least.iter().filter(|(_, reads)| *reads).map(|(seconds, _)| seconds).sum();
        let report = Report {
            bench,
            model: self.args.model.clone(),
            parameters: self.parameters,
            threads: self.threads,
            instruction_set: format!("{:?}", instruction_set()).to_lowercase(),
            settings,
            tokens,
            tokens_per_s: tokens as f64 / measured.wall_s,
            peak: if reading > seconds / 2.0 { "bandwidth" } else { "matrix" },
            share_of_peak: seconds / measured.wall_s,
            gflop: costs.iter().map(|cost| cost.flops).sum::<f64>() / 1e9,
            matrix_gflop_per_s: peaks.flops / 1e9,
            bandwidth_gb_per_s: peaks.bytes / 1e9,
            measured,
        };
        match self.args.json {
            true => printer::json(&report)?,
            false => printer::data(&printer::table(&rows(&report)))?,
        }
        Ok(Outcome::Done)
    }
}

fn rows(report: &Report) -> Vec<Vec<String>> {
    let Report { measured, peak, .. } = report;
    let least = measured.wall_s_each.iter().copied().fold(f64::INFINITY, f64::min);
    let most = measured.wall_s_each.iter().copied().fold(0.0, f64::max);
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("parameters", report.parameters.to_string()),
        row("threads", format!("{} ({})", report.threads, report.instruction_set)),
        row("wall s", format!("{:.4} ({least:.4} to {most:.4})", measured.wall_s)),
        row("processor s", format!("{:.4}", measured.cpu_s)),
        row("tokens/s", format!("{:.0}", report.tokens_per_s)),
        row("memory MiB", format!("{} ({} before the model)", measured.rss_mib, measured.rss_start_mib)),
        row("share of peak", format!("{:.0} % ({peak})", 100.0 * report.share_of_peak)),
        row("matrix GFLOP/s", format!("{:.0}", report.matrix_gflop_per_s)),
        row("bandwidth GB/s", format!("{:.1}", report.bandwidth_gb_per_s)),
    ];
    if let Some(rollout) = measured.rollout_s {
        rows.insert(3, row("of it sampling", format!("{rollout:.4}")));
    }
    rows
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    }
}
