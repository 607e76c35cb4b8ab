//! The plain lines: a round in one of them, for terminals that are none and for people who prefer them.

use crate::audits;
use crate::record::RoundRecord;

/// A round in a line; `rounds` of them are to be done, 0 for no end.
pub(crate) fn round(record: &RoundRecord, rounds: u32) -> String {
    let percent =
        |share: Option<f64>| share.map_or("   – ".into(), |share| format!("{:4.0} %", 100.0 * share));
    let of = if rounds > 0 { format!("/{rounds}") } else { String::new() };
    let verdicts = match &record.critiques {
        Some(critiques) => format!("verdicts right {}  ", percent(critiques.verdict_accuracy)),
        None => String::new(),
    };
    let audits = record.audits.as_ref().map_or(String::new(), |record| audits::words(record) + "  ");
    format!(
        "round {:>3}{of}  right {}  reasoned {}  vote right {}  undecided {}  {verdicts}{audits}{:.1} s, {} ms overhead",
        record.round,
        percent(record.sampled_accuracy),
        percent(record.trace_share),
        percent(record.vote_accuracy),
        percent(record.undecided_share),
        record.wall_ms as f64 / 1000.0,
        record.overhead_ms.unwrap_or(0),
    )
}
