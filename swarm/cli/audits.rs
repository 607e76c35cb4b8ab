//! Audits as people read them: who was audited, by whom, what came of it and what it cost.

use std::collections::BTreeMap;

use judge::{AuditOutcome, AuditReport, Finding, PeerKey};
use serde::{Deserialize, Serialize};
use swarm::engine::Settled;

use crate::auditor::Audited;
use crate::news::AuditCost;

/// What a round's record says of audits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AuditsRecord {
    /// By the name of the peer whose answers were looked at.
    pub(crate) audited: BTreeMap<String, AuditRecord>,
    /// Audits that peers in this process did, the weights that they fetched for them and the time that it took.
    pub(crate) done: usize,
    pub(crate) bytes: usize,
    pub(crate) took_ms: u64,
}

/// What came of one audit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AuditRecord {
    pub(crate) outcome: String,
    /// Findings by the names of the auditors.
    pub(crate) findings: BTreeMap<String, String>,
    /// Auditors that were wrong, and whoever planted nothing where it said so.
    pub(crate) marked: Vec<String>,
}

/// The audits that a settlement closed; `None` if there were none and nobody here did any.
pub(crate) fn record(settled: &Settled, costs: impl Iterator<Item = AuditCost>) -> Option<AuditsRecord> {
    let mut record = AuditsRecord::default();
    for cost in costs {
        record.done += cost.count;
        record.bytes += cost.bytes;
        record.took_ms += cost.took_ms;
    }
    for (peer, report) in &settled.settlement.audits {
        let findings = report.findings.iter().map(|(by, found)| (by.name(), finding(*found).to_owned()));
        let audit = AuditRecord {
            outcome: outcome(report.outcome).into(),
            findings: findings.collect(),
            marked: report.marked.iter().map(PeerKey::name).collect(),
        };
        record.audited.insert(peer.name(), audit);
    }
    (record.done > 0 || !record.audited.is_empty()).then_some(record)
}

/// The record in a few words for the round's line.
pub(crate) fn words(record: &AuditsRecord) -> String {
    let passed =
        record.audited.values().filter(|audit| audit.outcome == outcome(AuditOutcome::Passed)).count();
    let others = record.audited.iter().filter(|(_, audit)| audit.outcome != outcome(AuditOutcome::Passed));
    let others: String = others.map(|(peer, audit)| format!(", {peer} {}", audit.outcome)).collect();
    format!("audits: {passed} passed{others}, {} ms", record.took_ms)
}

/// What an own audit found, in a sentence; `None` for the ordinary. It may be a test that its peer planted: what it
/// means is known with everybody's findings.
pub(crate) fn found(audited: &Audited) -> Option<String> {
    let Audited { round, peer, why, .. } = audited;
    (!why.is_empty()).then(|| {
        format!(
            "routine check of {}'s answers in round {round}: {why}; all findings together decide",
            peer.name()
        )
    })
}

/// Whether nobody did anything wrong, as far as an audit could tell.
pub(crate) fn is_routine(report: &AuditReport) -> bool {
    let outcome =
        matches!(report.outcome, AuditOutcome::Passed | AuditOutcome::Planted | AuditOutcome::Unclear);
    outcome && report.marked.is_empty()
}

/// An audit in a sentence.
pub(crate) fn sentence(peer: &PeerKey, report: &AuditReport) -> String {
    let findings: Vec<String> =
        report.findings.iter().map(|(by, found)| format!("{} says {}", by.name(), finding(*found))).collect();
    let findings = if findings.is_empty() { "nobody said anything".into() } else { findings.join(", ") };
    let what = match report.outcome {
        AuditOutcome::Passed => "are what its weights sample",
        AuditOutcome::Failed => {
            "are not what its weights sample: its votes do not count until it passes audits again"
        }
        AuditOutcome::Planted => "were spoilt on purpose, a routine test of the auditors",
        AuditOutcome::Unplanted => "were said to be spoilt on purpose, and were not",
        AuditOutcome::Disputed => "are disputed: more auditors look at them",
        AuditOutcome::Withheld => "were not audited: it keeps its weights back",
        AuditOutcome::Unclear => "were not audited: too few could tell",
    };
    let marked: Vec<String> = report.marked.iter().map(PeerKey::name).collect();
    let marked = if marked.is_empty() { String::new() } else { format!("; marked: {}", marked.join(", ")) };
    format!("answers of {} {what} ({findings}{marked})", peer.name())
}

fn outcome(outcome: AuditOutcome) -> &'static str {
    match outcome {
        AuditOutcome::Passed => "passed",
        AuditOutcome::Failed => "failed",
        AuditOutcome::Planted => "planted",
        AuditOutcome::Unplanted => "unplanted",
        AuditOutcome::Disputed => "disputed",
        AuditOutcome::Withheld => "withheld",
        AuditOutcome::Unclear => "unclear",
    }
}

fn finding(finding: Finding) -> &'static str {
    match finding {
        Finding::Pass => "pass",
        Finding::Fail => "fail",
        Finding::Withheld => "withheld",
        Finding::Inconclusive => "inconclusive",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::happenings;
    use crate::record::Level;
    use swarm::engine::Event;

    #[test]
    fn only_a_fault_is_a_warning() {
        let peer = PeerKey([7; 32]);
        let level = |outcome, marked: &[PeerKey]| {
            let marked = marked.iter().copied().collect();
            let report = AuditReport { outcome, findings: BTreeMap::new(), marked };
            happenings::level(&Event::Audited { peer, report })
        };
        for outcome in [AuditOutcome::Passed, AuditOutcome::Planted, AuditOutcome::Unclear] {
            assert_eq!(level(outcome, &[]), Level::Info, "{outcome:?}");
            assert_eq!(level(outcome, &[peer]), Level::Warn, "{outcome:?}, and somebody was wrong");
        }
        assert_eq!(level(AuditOutcome::Failed, &[]), Level::Warn);
        let audited = |why: &str| Audited {
            round: 7,
            peer,
            finding: Finding::Fail,
            why: why.into(),
            bytes: 0,
            took_ms: 0,
        };
        assert_eq!(found(&audited("")), None);
        let text = found(&audited("completion 0 of prompt 2 is not what its weights sample")).unwrap();
        assert!(text.starts_with("routine check of ") && text.contains("completion 0 of prompt 2"), "{text}");
    }
}
