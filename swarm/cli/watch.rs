//! `murmur watch`: one screen about a run, folded from its records while it goes on or afterwards.

use std::thread;
use std::time::Duration;

use crate::args::WatchArgs;
use crate::card::share;
use crate::exit::{Interrupted, Outcome};
use crate::interrupt::Interrupt;
use crate::printer;
use crate::record::{Event, Report, RoundRecord, RunDir, RunInfo, SaidRecord, Status};

/// Pause between two frames.
const FRAME: Duration = Duration::from_millis(500);
/// Points of a curve; a longer run is averaged down to it.
const CURVE_WIDTH: usize = 48;
/// Characters of a critique's reason on the screen.
const REASON_CHARS: usize = 72;
/// Critiques on the screen.
const CRITIQUES: usize = 3;
/// Events on the screen.
const EVENTS: usize = 6;

/// Everything on the screen.
#[derive(Debug, Default, serde::Serialize)]
struct View {
    info: RunInfo,
    rounds: Vec<RoundRecord>,
    status: Option<Status>,
    events: Vec<Event>,
    report: Option<Report>,
}

impl View {
    fn read(run: &RunDir, info: &RunInfo) -> anyhow::Result<Self> {
        Ok(Self {
            info: info.clone(),
            // First: when it is there, everything before it is complete.
            report: run.report()?,
            rounds: run.rounds()?,
            status: run.status()?,
            events: run.events()?,
        })
    }

    fn render(&self) -> String {
        let mut lines = vec![self.title(), self.place(), self.roster(), String::new()];
        lines.extend(self.curves());
        lines.extend(self.critics());
        lines.push(String::new());
        if let Some(report) = &self.report {
            lines.push(ending(report));
        }
        for event in self.events.iter().rev().take(EVENTS).rev() {
            lines.push(format!("round {:>3}  {}", event.round, event.text));
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines.join("\n")
    }

    fn title(&self) -> String {
        let info = &self.info;
        let swarm =
            if info.swarm.is_empty() { "no swarm".into() } else { format!("swarm {:.12}", info.swarm) };
        format!("murmur  {swarm}  arm {}  seed {}  since {}", info.arm, info.seed, info.started)
    }

    fn place(&self) -> String {
        let done = self.rounds.last().map_or(0, |round| round.round);
        let of = if self.info.rounds > 0 { format!(" of {}", self.info.rounds) } else { String::new() };
        match (&self.report, &self.status) {
            (Some(_), _) => format!("round {done}{of}  ended"),
            (None, Some(status)) => {
                let waiting =
                    if status.waiting.is_empty() { String::new() } else { format!("  {}", status.waiting) };
                format!("round {}{of}  {}{waiting}", status.round, status.phase)
            }
            (None, None) => format!("round {done}{of}"),
        }
    }

    fn roster(&self) -> String {
        let names: Vec<&str> = match self.rounds.last() {
            Some(round) => round.roster.iter().map(String::as_str).collect(),
            None => self.info.peers.iter().map(|peer| peer.name.as_str()).collect(),
        };
        format!("{} peers  {}", names.len(), names.join("  "))
    }

    /// The critics' standing and the last critiques, where there are any.
    fn critics(&self) -> Vec<String> {
        let Some(critiques) = self.rounds.iter().rev().find_map(|round| round.critiques.as_ref()) else {
            return Vec::new();
        };
        let skill = critiques.skill.iter().map(|(critic, skill)| format!("{critic} {skill:+.2}"));
        let mut lines = vec![format!("critics         {}", skill.collect::<Vec<_>>().join("  "))];
        lines.extend(critiques.said.iter().take(CRITIQUES).map(|said| {
            let SaidRecord { critic, prompt, answer, verdict, reason } = said;
            format!("  {critic} of {answer} to prompt {prompt}: {verdict}. {reason:.REASON_CHARS$}")
        }));
        lines
    }

    fn curves(&self) -> Vec<String> {
        type Value = fn(&RoundRecord) -> Option<f64>;
        let curves: [(&str, Value); 6] = [
            ("answers right", |round| round.sampled_accuracy),
            ("votes right", |round| round.vote_accuracy),
            ("undecided", |round| round.undecided_share),
            ("winner's share", |round| round.mean_share),
            ("shows reasoning", |round| round.trace_share),
            ("verdicts right", |round| round.critiques.as_ref().and_then(|c| c.verdict_accuracy)),
        ];
        let line = |(name, value): &(&str, Value)| {
            let values: Vec<f64> = self.rounds.iter().filter_map(value).collect();
            let (first, last) = (values.first()?, values.last()?);
            Some(format!(
                "{name:<16}{:>5} {} {}",
                share(*first),
                sparkline(&values, CURVE_WIDTH),
                share(*last)
            ))
        };
        curves.iter().filter_map(line).collect()
    }
}

fn ending(report: &Report) -> String {
    let mean = |e: &Option<crate::evaluation::Evaluation>| e.as_ref().map_or("–".into(), |e| share(e.mean));
    let (before, after) = (mean(&report.before), mean(&report.after));
    format!(
        "held-out accuracy {before} → {after} after {} rounds, {:.0} s",
        report.rounds, report.wall_seconds
    )
}

/// Values from 0 to 1 as one line of blocks, averaged down to at most `width` of them.
fn sparkline(values: &[f64], width: usize) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let points = values.len().min(width);
    let point = |index: usize| {
        let (from, to) = (index * values.len() / points, (index + 1) * values.len() / points);
        let mean = values[from..to].iter().sum::<f64>() / (to - from) as f64;
        BLOCKS[((mean * 8.0) as usize).min(7)]
    };
    (0..points).map(point).collect()
}

/// Runs the command.
///
/// # Errors
/// The directory is no run or a record in it is damaged.
pub(crate) fn run(args: &WatchArgs) -> anyhow::Result<Outcome> {
    let (run, info) = RunDir::open(&args.run)?;
    if args.json {
        printer::json(&View::read(&run, &info)?)?;
        return Ok(Outcome::Done);
    }
    if args.once || !printer::live() {
        printer::data(&View::read(&run, &info)?.render())?;
        return Ok(Outcome::Done);
    }
    let interrupt = Interrupt::listen()?;
    loop {
        let view = View::read(&run, &info)?;
        printer::frame(&view.render())?;
        if view.report.is_some() {
            return Ok(Outcome::Done);
        }
        thread::sleep(FRAME);
        if interrupt.requested() {
            return Err(Interrupted("the run itself goes on".into()).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::PeerInfo;

    #[test]
    fn curves_are_averaged_down() {
        assert_eq!(sparkline(&[0.0, 0.5, 1.0], 8), "▁▅█");
        assert_eq!(sparkline(&[0.0, 0.0, 1.0, 1.0, 0.5, 0.5], 3), "▁█▅");
        assert_eq!(sparkline(&[], 8), "");
        assert_eq!(sparkline(&vec![0.3; 1000], 48).chars().count(), 48);
    }

    #[test]
    fn a_frame_says_where_it_is() {
        let peer = |name: &str| PeerInfo { name: name.into(), ..PeerInfo::default() };
        let info = RunInfo {
            swarm: "0123456789abcdef".into(),
            arm: "swarm".into(),
            seed: 7,
            rounds: 30,
            started: "2031-05-04T13:59:00Z".into(),
            peers: vec![peer("brisk-otter"), peer("calm-heron")],
            ..RunInfo::default()
        };
        let mut view = View { info, ..View::default() };
        assert!(view.render().contains("2 peers  brisk-otter  calm-heron"));
        let accuracies = [0.25, 0.75];
        view.rounds = (1..=2)
            .map(|round| RoundRecord {
                round,
                sampled_accuracy: Some(accuracies[round as usize - 1]),
                roster: vec!["brisk-otter".into()],
                ..RoundRecord::default()
            })
            .collect();
        view.status = Some(Status { round: 3, phase: "votes".into(), ..Status::default() });
        view.events = vec![Event { round: 2, text: "calm-heron left".into(), ..Event::default() }];
        let expected = "murmur  swarm 0123456789ab  arm swarm  seed 7  since 2031-05-04T13:59:00Z\n\
                        round 3 of 30  votes\n\
                        1 peers  brisk-otter\n\n\
                        answers right     .25 ▃▇ .75\n\n\
                        round   2  calm-heron left";
        assert_eq!(view.render(), expected);
    }
}
