//! Audits: who is drawn, what two auditors and a jury decide, and what it costs whom.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use judge::*;
use std::collections::{BTreeMap, BTreeSet};

fn peer(n: u8) -> PeerKey {
    PeerKey([n; 32])
}

fn seal(n: u8) -> [u8; 32] {
    [n ^ 0xff; 32]
}

/// Seven peers, all of whom offer weights in every round. `says` is what an auditor finds of a peer.
struct Swarm {
    rules: Rules,
    state: State,
    round: u8,
    peers: u8,
    /// Peers that cast no ballot.
    silent: BTreeSet<PeerKey>,
    /// Peers that open a test, if they can.
    open: BTreeSet<PeerKey>,
    settled: Option<Settlement>,
}

impl Swarm {
    fn new(peers: u8) -> Swarm {
        Swarm {
            rules: Rules {
                audit: AuditRules { share_permille: 1000, ..AuditRules::default() },
                ..Rules::default()
            },
            state: State::default(),
            round: 0,
            peers,
            silent: BTreeSet::new(),
            open: BTreeSet::new(),
            settled: None,
        }
    }

    fn roster(&self) -> Vec<PeerKey> {
        (1..=self.peers).map(peer).collect()
    }

    /// Who audits whom in the round to come.
    fn duties(&self) -> BTreeMap<PeerKey, Duty> {
        duties(&self.rules.audit, &self.state.audits, &self.roster(), &[self.round + 1; 32])
    }

    /// Settles a round in which everybody finds what `says` says of whom it was asked to audit.
    fn round(
        &mut self,
        says: impl Fn(PeerKey, PeerKey) -> Option<Finding>,
    ) -> &BTreeMap<PeerKey, AuditReport> {
        let duties = self.duties();
        self.round += 1;
        let roster = self.roster();
        let mut audits = AuditVotes::default();
        for peer in &roster {
            audits.offers.insert(*peer, Offer { seal: seal(peer.0[0]) });
            if self.open.contains(peer) {
                audits.opened.insert(*peer, BTreeSet::from([seal(peer.0[0])]));
            }
        }
        for (of, duty) in &duties {
            for auditor in &duty.auditors {
                let found = says(*auditor, *of).map(|finding| (*of, finding));
                audits.findings.entry(*auditor).or_default().extend(found);
            }
        }
        let conduct = |p: &PeerKey| Conduct { voted: !self.silent.contains(p), ..Conduct::CLEAN };
        let conduct = roster.iter().map(|p| (*p, conduct(p))).collect();
        let votes =
            RoundVotes { roster, gold_seed: [self.round; 32], conduct, audits, ..RoundVotes::default() };
        let settled = settle(&self.rules, &self.state, &votes);
        self.state = settled.next.clone();
        &self.settled.insert(settled).audits
    }

    fn record(&self, n: u8) -> AuditRecord {
        self.state.audits.records.get(&peer(n)).cloned().unwrap_or_default()
    }

    fn weight(&self, n: u8) -> u32 {
        weights(&self.rules, &self.state, &self.roster())[&peer(n)]
    }
}

use Finding::{Fail, Inconclusive, Pass, Withheld};

fn honest(_: PeerKey, _: PeerKey) -> Option<Finding> {
    Some(Pass)
}

/// Peer 1 fakes, everybody else finds it out.
fn one_fakes(_: PeerKey, of: PeerKey) -> Option<Finding> {
    Some(if of == peer(1) { Fail } else { Pass })
}

#[test]
fn everybody_is_audited_by_two_others_until_it_has_a_clean_record_and_then_by_chance() {
    let mut swarm = Swarm::new(7);
    swarm.rules.audit.share_permille = 250;
    assert!(swarm.duties().is_empty(), "nothing was answered yet");
    assert!(swarm.round(honest).is_empty());
    for passed in 1..=CLEAN_PASSES {
        let duties = swarm.duties();
        assert_eq!(duties.len(), 7, "newcomers are always audited");
        for (of, duty) in &duties {
            assert!(duty.auditors.len() == AUDITORS && !duty.auditors.contains(of) && !duty.disputed);
        }
        swarm.round(honest);
        assert_eq!(swarm.record(3).passed, passed);
    }
    let audited: usize = (0..200).map(|_| swarm.round(honest).len()).sum();
    // 1400 chances of a quarter: 350, standard deviation 16; the beacons are fixed.
    assert!((300..400).contains(&audited), "{audited}");
    assert!((1..=7).all(|n| swarm.record(n).marks == 0 && swarm.record(n).failed == 0));
}

#[test]
fn two_accusers_suspend_a_peer_until_it_passes_again() {
    let mut swarm = Swarm::new(7);
    swarm.round(honest);
    let reports = swarm.round(one_fakes);
    assert_eq!(reports[&peer(1)].outcome, AuditOutcome::Failed);
    assert_eq!(reports[&peer(2)].outcome, AuditOutcome::Passed);
    assert_eq!((swarm.record(1).failed, swarm.weight(1)), (1, 0));
    assert!(swarm.weight(2) > 0);
    assert_eq!(swarm.settled.as_ref().unwrap().weights[&peer(1)], 0, "this very round's votes do not count");
    swarm.round(one_fakes);
    for _ in 0..CLEAN_PASSES {
        assert_eq!(swarm.weight(1), 0);
        swarm.round(honest);
    }
    assert!(swarm.weight(1) > 0);
    assert_eq!(swarm.record(1).failed, 2);
}

#[test]
fn one_accuser_decides_nothing_and_a_jury_marks_whoever_was_wrong() {
    // Peer 7 slanders everybody.
    let slander = |auditor, _| Some(if auditor == peer(7) { Fail } else { Pass });
    let mut swarm = Swarm::new(8);
    swarm.round(honest);
    for _ in 0..12 {
        swarm.round(slander);
    }
    assert!(swarm.record(7).marks >= MARKS_MAX, "and is not drawn any more");
    assert!(swarm.duties().values().all(|duty| !duty.auditors.contains(&peer(7))));
    for n in 1..=8 {
        assert_eq!(swarm.record(n).failed, 0, "nobody is suspended for what one peer says");
        assert!(n == 7 || swarm.record(n).marks == 0);
    }

    // Peer 7 passes everybody, peer 1 fakes.
    let lazy = |auditor, of| Some(if of == peer(1) && auditor != peer(7) { Fail } else { Pass });
    let mut swarm = Swarm::new(8);
    swarm.round(honest);
    while swarm.record(7).marks < MARKS_MAX {
        swarm.round(lazy);
        assert!(swarm.round < 60);
    }
    assert!(swarm.record(1).failed > 0);
    assert!((2..=6).all(|n| swarm.record(n).marks == 0));
}

#[test]
fn a_dispute_is_about_the_same_answers_and_decided_by_the_majority_of_all() {
    let mut swarm = Swarm::new(8);
    swarm.round(honest);
    let first = swarm.duties()[&peer(1)].auditors.clone();
    let wrong = *first.first().unwrap();
    let reports =
        swarm.round(|auditor, of| Some(if of == peer(1) && auditor == wrong { Fail } else { Pass }));
    assert_eq!(reports[&peer(1)].outcome, AuditOutcome::Disputed);
    assert_eq!(swarm.weight(1), swarm.weight(2), "nothing is decided");
    let duty = &swarm.duties()[&peer(1)];
    assert!(duty.disputed && duty.auditors.len() == JURY && duty.auditors.is_disjoint(&first));
    let report = &swarm.round(honest)[&peer(1)];
    assert_eq!(report.outcome, AuditOutcome::Passed);
    assert_eq!((report.findings.len(), &report.marked), (JURY + AUDITORS, &BTreeSet::from([wrong])));
    assert!(swarm.state.audits.disputes.is_empty());

    // With nobody left to ask, a draw stays one.
    let mut swarm = Swarm::new(3);
    swarm.round(honest);
    let split = |auditor, of| Some(if of == peer(1) && auditor == peer(2) { Fail } else { Pass });
    assert_eq!(swarm.round(split)[&peer(1)].outcome, AuditOutcome::Disputed);
    assert_eq!(swarm.round(split)[&peer(1)].outcome, AuditOutcome::Unclear);
    assert_eq!((swarm.record(1).failed, swarm.record(2).marks), (0, 0));
}

#[test]
fn a_planted_case_excuses_its_author_and_shows_lazy_auditors() {
    let mut swarm = Swarm::new(8);
    swarm.round(honest);
    swarm.open = BTreeSet::from([peer(1)]);
    let report = &swarm.round(one_fakes)[&peer(1)];
    assert_eq!((report.outcome, report.findings.len()), (AuditOutcome::Planted, 2));
    assert_eq!((swarm.record(1).failed, swarm.record(1).plant_permille), (0, 50));

    // Not again so soon: what was saved is spent, and the same is a fault.
    assert_eq!(swarm.round(one_fakes)[&peer(1)].outcome, AuditOutcome::Failed);

    // Two lazy auditors of one case: the jury finds out.
    let mut swarm = Swarm::new(8);
    swarm.round(honest);
    swarm.open = BTreeSet::from([peer(1)]);
    let lazy = swarm.duties()[&peer(1)].auditors.clone();
    let looks =
        |auditor: PeerKey, of| Some(if of == peer(1) && !lazy.contains(&auditor) { Fail } else { Pass });
    assert_eq!(swarm.round(looks)[&peer(1)].outcome, AuditOutcome::Disputed);
    let report = &swarm.round(looks)[&peer(1)];
    assert_eq!((report.outcome, &report.marked), (AuditOutcome::Planted, &lazy));
    assert_eq!(swarm.record(1).failed, 0);
}

#[test]
fn a_test_that_is_none_marks_its_author() {
    let mut swarm = Swarm::new(8);
    swarm.round(honest);
    swarm.open = BTreeSet::from([peer(1)]);
    assert_eq!(swarm.round(honest)[&peer(1)].outcome, AuditOutcome::Disputed);
    let report = &swarm.round(honest)[&peer(1)];
    assert_eq!((report.outcome, &report.marked), (AuditOutcome::Unplanted, &BTreeSet::from([peer(1)])));
}

#[test]
fn a_peer_that_could_not_speak_may_open_its_test_a_round_later() {
    let mut swarm = Swarm::new(8);
    swarm.round(honest);
    swarm.silent = BTreeSet::from([peer(1)]);
    assert_eq!(swarm.round(one_fakes)[&peer(1)].outcome, AuditOutcome::Disputed);
    swarm.silent.clear();
    swarm.open = BTreeSet::from([peer(1)]);
    assert_eq!(swarm.round(one_fakes)[&peer(1)].outcome, AuditOutcome::Planted);
    // Silence is no way out: the first vote that would count does not.
    swarm.open.clear();
    swarm.silent = BTreeSet::from([peer(1)]);
    for _ in 0..5 {
        assert_eq!(swarm.round(one_fakes)[&peer(1)].outcome, AuditOutcome::Disputed);
    }
    swarm.silent.clear();
    assert_eq!(swarm.round(one_fakes)[&peer(1)].outcome, AuditOutcome::Failed);
    assert_eq!(swarm.settled.as_ref().unwrap().weights[&peer(1)], 0);
}

#[test]
fn weights_that_nobody_is_given_three_times_are_a_fault() {
    let keeps = |_, of| Some(if of == peer(1) { Withheld } else { Pass });
    let mut swarm = Swarm::new(5);
    swarm.round(honest);
    for times in 1..=SOFT_FAILURES {
        assert_eq!(swarm.record(1).failed, 0);
        assert_eq!(swarm.round(keeps)[&peer(1)].outcome, AuditOutcome::Withheld, "{times}");
    }
    assert_eq!((swarm.record(1).failed, swarm.weight(1)), (1, 0));
    // To be given them by chance only is neither.
    let mut swarm = Swarm::new(5);
    swarm.round(honest);
    let unlucky = swarm.duties()[&peer(1)].auditors.first().copied();
    let says = |auditor, of| Some(if of == peer(1) && Some(auditor) == unlucky { Withheld } else { Pass });
    assert_eq!(swarm.round(says)[&peer(1)].outcome, AuditOutcome::Unclear);
}

#[test]
fn who_cannot_tell_accuses_nobody_and_who_was_not_asked_is_not_heard() {
    let mut swarm = Swarm::new(5);
    swarm.round(honest);
    assert_eq!(swarm.round(|_, _| Some(Inconclusive))[&peer(1)].outcome, AuditOutcome::Unclear);
    assert_eq!(swarm.round(|_, _| None)[&peer(2)].outcome, AuditOutcome::Unclear);
    assert!((1..=5).all(|n| swarm.record(n).failed == 0 && swarm.record(n).passed == 0));

    let asked = swarm.duties()[&peer(1)].auditors.clone();
    let roster = swarm.roster();
    let mut audits = AuditVotes::default();
    for auditor in roster.iter().filter(|p| !asked.contains(p)) {
        audits.findings.insert(*auditor, BTreeMap::from([(peer(1), Fail)]));
    }
    let votes = RoundVotes { roster, gold_seed: [swarm.round + 1; 32], audits, ..RoundVotes::default() };
    let settled = settle(&swarm.rules, &swarm.state, &votes);
    assert!(settled.audits[&peer(1)].findings.is_empty());
}

#[test]
fn without_offers_a_state_is_as_if_there_were_no_audits() {
    let roster = vec![peer(1), peer(2), peer(3)];
    let votes = RoundVotes { roster, ..RoundVotes::default() };
    let settled = settle(&Rules::default(), &State::default(), &votes);
    let text = serde_json::to_string(&settled).unwrap();
    assert!(!text.contains("audit"), "{text}");
    assert!(!serde_json::to_string(&Rules::default()).unwrap().contains("audit"));
}
