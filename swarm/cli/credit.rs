//! `murmur credit RUN`: what each peer contributed, from a log that is verified on the way.

use judge::MICRO;
use serde::Serialize;
use swarm::replay::Credit;

use crate::args::CreditArgs;
use crate::exit::Outcome;
use crate::{logs, printer};

/// The object of `--json`.
#[derive(Debug, Serialize)]
struct Report {
    /// Whose log it is.
    log: String,
    /// Rounds that it settled.
    rounds: usize,
    peers: Vec<PeerCredit>,
}

/// One peer of it; shares are from 0 to 1.
#[derive(Debug, Serialize)]
struct PeerCredit {
    name: String,
    key: String,
    mean_reward: Option<f64>,
    /// Aged part of its ballots that was right on gold.
    gold_accuracy: Option<f64>,
    /// 1 is a whole vote.
    vote_weight: f64,
    #[serde(flatten)]
    credit: Credit,
}

/// Runs the command.
///
/// # Errors
/// No log, or one in which something does not follow.
pub(crate) fn run(args: &CreditArgs) -> anyhow::Result<Outcome> {
    let (_, replayed) = logs::fullest(&args.run, args.peer.as_deref(), args.to_round)?;
    let share = |micro: u32| f64::from(micro) / f64::from(MICRO);
    let peers = replayed.credit.iter().map(|(key, credit)| PeerCredit {
        name: key.name(),
        key: key.hex(),
        mean_reward: credit.mean_reward(),
        gold_accuracy: credit.accuracy_micro.map(share),
        vote_weight: share(credit.weight_micro),
        credit: credit.clone(),
    });
    let mut peers: Vec<PeerCredit> = peers.collect();
    peers.sort_by(|a, b| b.credit.consensus_wins.cmp(&a.credit.consensus_wins).then(a.key.cmp(&b.key)));
    let report = Report { log: replayed.peer.name(), rounds: replayed.rounds.len(), peers };
    if args.json {
        printer::json(&report)?
    } else {
        show(&report)?
    }
    Ok(Outcome::Done)
}

fn show(report: &Report) -> anyhow::Result<()> {
    let head = [
        "peer",
        "rounds",
        "answered",
        "rewarded",
        "reward",
        "wins",
        "gold",
        "critiques",
        "missed",
        "withheld",
        "audits passed",
        "failed",
        "done",
        "wrong",
        "late",
        "equivocated",
        "weight",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let number = |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.3}"));
    rows.extend(report.peers.iter().map(|peer| {
        let Credit { rounds, answered, prompts_rewarded, consensus_wins, .. } = peer.credit;
        let Credit { critiqued, missed, withheld, late, equivocations, .. } = peer.credit;
        let Credit { audits_passed, audits_failed, audits_done, audits_wrong, .. } = peer.credit;
        let counts = |values: &[u32]| values.iter().map(u32::to_string).collect::<Vec<_>>();
        let mut row = vec![peer.name.clone()];
        row.extend(counts(&[rounds, answered, prompts_rewarded]));
        row.push(number(peer.mean_reward));
        row.extend(counts(&[consensus_wins]));
        row.push(number(peer.gold_accuracy));
        row.extend(counts(&[critiqued, missed, withheld, audits_passed, audits_failed]));
        row.extend(counts(&[audits_done, audits_wrong, late, equivocations]));
        row.push(format!("{:.3}", peer.vote_weight));
        row
    }));
    let text = format!("{}\n\n{} rounds by the log of {}", printer::table(&rows), report.rounds, report.log);
    Ok(printer::data(&text)?)
}
