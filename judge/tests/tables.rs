//! The rule as text: a small script of votes above the line, what was settled below it.
//!
//! Peers are letters, candidates words of up to eight letters (their bytes are their id, so "lowest id" reads as
//! "first in the alphabet"). One line a statement:
//!
//! ```text
//! rules tau=400 cut_after=0          permille or counts, as in Rules
//! roster A B C                       who is in (otherwise: everybody who revealed, without "!")
//! found A B C                        the founders (otherwise: the first roster)
//! know L accuracy=20 ballots=50      a peer's record, permille; also liveness=; joiner
//! A: 7 7 9 -                         completions; the ballot is their counts
//! A: 7 7 9 - | 7=1000                ... unless one is given; "|" alone abstains
//! !X: 7 7                            the same from outside the roster
//! A ? 7=-100 9=-900                  critiques
//! gold 7                             the reference answer of the prompt
//! prompt                             the next prompt of the round
//! late A                             missed the vote; "withheld A": no reveal
//! settle 10                          settle this round so often, each with another beacon
//! clear                              a new round
//! show votes | weights | gold | reputation | totals
//! ```
//!
//! `UPDATE_EXPECT=1 cargo test -p murmur-judge` rewrites what is below the lines.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use expect_test::{Expect, expect};
use judge::{
    CandidateId, Conduct, Label, PeerKey, PromptVotes, Reputation, RoundVotes, Rules, Settlement, State,
    ballot_from_completions, settle, weights,
};
use std::collections::BTreeMap;
use std::fmt::Write;

fn check(table: Expect) {
    let text = table.data();
    let indent =
        text.lines().rev().find(|l| !l.trim().is_empty()).map_or(0, |l| l.len() - l.trim_start().len());
    let setup: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .map(|l| l.get(indent..).unwrap_or(""))
        .take_while(|l| *l != "----")
        .collect();
    let mut script = Script::default();
    for line in &setup {
        script.run(line.split_once('#').map_or(*line, |(line, _)| line));
    }
    let setup = setup.join("\n");
    table.assert_eq(&format!("{}\n----\n{}", setup.trim_start_matches('\n'), script.picture));
}

#[derive(Default)]
struct Script {
    rules: Rules,
    state: Option<State>,
    roster: Option<Vec<PeerKey>>,
    prompts: Vec<PromptVotes>,
    outside: Vec<PeerKey>,
    conduct: BTreeMap<PeerKey, Conduct>,
    settlements: u8,
    settled: Option<Settlement>,
    picture: String,
}

fn peer(name: &str) -> PeerKey {
    PeerKey([name.as_bytes()[0]; 32])
}

fn letter(peer: &PeerKey) -> char {
    char::from(peer.0[0])
}

fn candidate(name: &str) -> CandidateId {
    let mut id = [b' '; 8];
    id[..name.len()].copy_from_slice(name.as_bytes());
    CandidateId(id)
}

fn word(candidate: &CandidateId) -> String {
    String::from_utf8_lossy(&candidate.0).trim_end().to_owned()
}

fn entries<T: std::str::FromStr>(words: &[&str]) -> BTreeMap<CandidateId, T> {
    let value = |text: &str| text.parse().unwrap_or_else(|_| panic!("not a number: {text}"));
    words
        .iter()
        .map(|w| w.split_once('=').expect("name=number"))
        .map(|(c, n)| (candidate(c), value(n)))
        .collect()
}

impl Script {
    fn prompt(&mut self) -> &mut PromptVotes {
        if self.prompts.is_empty() {
            self.prompts.push(PromptVotes::default());
        }
        self.prompts.last_mut().unwrap()
    }

    fn run(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            ["rules", rest @ ..] => rest.iter().for_each(|rule| self.rule(rule)),
            ["roster", rest @ ..] => self.roster = Some(rest.iter().map(|name| peer(name)).collect()),
            ["found", rest @ ..] => {
                self.state = Some(State::founded_by(&rest.iter().map(|name| peer(name)).collect::<Vec<_>>()));
            }
            ["know", name, rest @ ..] => self.know(name, rest),
            ["prompt"] => self.prompts.push(PromptVotes::default()),
            ["gold", answer] => self.prompt().gold = Some(candidate(answer)),
            ["late", name] => {
                self.conduct.insert(peer(name), Conduct { voted: false, ..Conduct::CLEAN });
            }
            ["withheld", name] => {
                self.conduct.insert(peer(name), Conduct { committed: true, ..Conduct::default() });
            }
            ["settle"] => self.settle(1),
            ["settle", times] => self.settle(times.parse().unwrap()),
            ["clear"] => {
                self.prompts.clear();
                self.conduct.clear();
            }
            ["show", what] => self.show(what),
            [name, "?", rest @ ..] => drop(self.prompt().critiques.insert(peer(name), entries(rest))),
            [name, rest @ ..] if name.ends_with(':') => self.answers(name.trim_end_matches(':'), rest),
            _ => panic!("what is {line:?}?"),
        }
    }

    fn rule(&mut self, rule: &str) {
        let (name, value) = rule.split_once('=').unwrap();
        let value = value.parse().unwrap();
        *match name {
            "tau" => &mut self.rules.tau_permille,
            "supporters" => &mut self.rules.supporters_min,
            "gold" => &mut self.rules.gold_share_permille,
            "cut_after" => &mut self.rules.cut_after_ballots,
            "probation" => &mut self.rules.probation_ballots,
            "cap" => &mut self.rules.weight_cap_permille,
            _ => panic!("no rule {name}"),
        } = value;
    }

    fn know(&mut self, name: &str, facts: &[&str]) {
        let state = self.state.get_or_insert_default();
        state.anchored = true;
        let mut record = State::founded_by(&[peer(name)]).reputations.remove(&peer(name)).unwrap();
        for fact in facts {
            match fact.split_once('=').map_or((*fact, 0), |(fact, n)| (fact, n.parse().unwrap())) {
                ("accuracy", n) => (record.successes_micro, record.trials_micro) = (n * 100_000, 100_000_000),
                ("ballots", n) => record.gold_ballots = n as u32,
                ("liveness", n) => record.liveness_permille = n as u32,
                ("joiner", _) => record.founder = false,
                _ => panic!("what is {fact:?}?"),
            }
        }
        state.reputations.insert(peer(name), record);
    }

    fn answers(&mut self, name: &str, words: &[&str]) {
        let author = peer(name.trim_start_matches('!'));
        if name.starts_with('!') {
            self.outside.push(author);
        }
        let (answers, ballot) = match words.iter().position(|w| *w == "|") {
            Some(bar) => (&words[..bar], Some(entries(&words[bar + 1..]))),
            None => (words, None),
        };
        let completions: Vec<_> = answers.iter().map(|a| (*a != "-").then(|| candidate(a))).collect();
        let ballot = ballot.unwrap_or_else(|| ballot_from_completions(&completions));
        self.prompt().ballots.insert(author, ballot);
        self.prompt().completions.insert(author, completions);
    }

    fn settle(&mut self, times: usize) {
        for _ in 0..times {
            let authors = self.prompts.iter().flat_map(|p| p.completions.keys().copied());
            let mut seen: Vec<PeerKey> = authors.filter(|p| !self.outside.contains(p)).collect();
            seen.sort();
            seen.dedup();
            let roster = self.roster.clone().unwrap_or(seen);
            let mut conduct: BTreeMap<_, _> = roster.iter().map(|peer| (*peer, Conduct::CLEAN)).collect();
            conduct.extend(self.conduct.clone());
            self.settlements += 1;
            let gold_seed = [self.settlements; 32];
            let votes = RoundVotes { roster, prompts: self.prompts.clone(), gold_seed, conduct };
            let settled = settle(&self.rules, &self.state.clone().unwrap_or_default(), &votes);
            self.state = Some(settled.next.clone());
            self.settled = Some(settled);
        }
    }

    fn show(&mut self, what: &str) {
        if self.settled.is_none() {
            self.settle(1);
        }
        let settled = self.settled.as_ref().unwrap();
        let next = self.state.as_ref().unwrap();
        let out = &mut self.picture;
        match what {
            "votes" => settled.prompts.iter().for_each(|prompt| votes(out, prompt)),
            "weights" => {
                let unanchored = if settled.anchored { "" } else { " unanchored" };
                for (peer, weight) in &settled.weights {
                    write!(out, "{} {weight}  ", letter(peer)).unwrap();
                }
                out.truncate(out.trim_end().len());
                writeln!(out, "{unanchored}").unwrap();
            }
            "gold" => {
                let gold = &settled.gold;
                let forgiven = if gold.forgiven { " forgiven" } else { "" };
                let (drawn, right) = (&gold.drawn, gold.consensus_right);
                let (labels_right, labels) = (gold.labels_right, gold.labels);
                writeln!(
                    out,
                    "drawn {drawn:?} consensus right {right} labels right {labels_right}/{labels}{forgiven}"
                )
                .unwrap();
                for (peer, ballots) in &gold.ballots {
                    writeln!(out, "{} tried {} mass {}", letter(peer), ballots.tried, ballots.mass_permille)
                        .unwrap();
                }
            }
            "reputation" => {
                let roster: Vec<PeerKey> = next.reputations.keys().copied().collect();
                let weights = weights(&self.rules, next, &roster);
                for (peer, r) in &next.reputations {
                    writeln!(out, "{}", record(peer, r, weights[peer])).unwrap();
                }
            }
            "totals" => {
                let s = settled;
                let counts = (s.labels_decided, s.labels_undecided, s.prompts_undecided);
                writeln!(out, "decided {} undecided {} prompts undecided {}", counts.0, counts.1, counts.2)
                    .unwrap();
                let forgiven = if s.conduct_forgiven { " conduct forgiven" } else { "" };
                writeln!(out, "void {:?}{forgiven}", s.voids).unwrap();
            }
            _ => panic!("show what?"),
        }
    }
}

fn record(peer: &PeerKey, r: &Reputation, weight: u32) -> String {
    format!(
        "{} accuracy {} ballots {} liveness {} critic {} weight {weight}",
        letter(peer),
        r.accuracy_micro(),
        r.gold_ballots,
        r.liveness_permille,
        r.critique_permille()
    )
}

fn votes(out: &mut String, prompt: &judge::PromptSettlement) {
    match &prompt.consensus {
        None => writeln!(out, "no consensus").unwrap(),
        Some(c) => {
            writeln!(out, "consensus {} share {} by {}", word(&c.candidate), c.share_permille, c.supporters)
                .unwrap();
        }
    }
    for (peer, label) in &prompt.labels {
        let line = match label {
            Label::Decided { candidate, share_permille, supporters } => {
                let pay = prompt.rewards.get(peer).map_or(String::new(), |pay| format!(" pays {pay:?}"));
                format!("{} share {share_permille} by {supporters}{pay}", word(candidate))
            }
            Label::Undecided { best, share_permille, supporters, reason } => {
                let best = best.as_ref().map_or("-".to_owned(), word);
                format!("undecided, {reason:?}: {best} share {share_permille} by {supporters}")
            }
        };
        writeln!(out, "{}: {line}", letter(peer)).unwrap();
    }
    for void in &prompt.voids {
        writeln!(out, "void: {} {:?}", letter(&void.peer), void.reason).unwrap();
    }
}

#[test]
fn plain_majority() {
    check(expect![[r#"
        A: 7 7 7 9
        B: 7 7 8 9
        C: 7 6 6 -
        show votes
        show weights
        show totals
        ----
        consensus 7 share 500 by 3
        A: 7 share 375 by 2 pays [1000, 1000, 1000, 0]
        B: 7 share 500 by 2 pays [1000, 1000, 0, 0]
        C: 7 share 625 by 2 pays [1000, 0, 0, 0]
        A 1000000  B 1000000  C 1000000 unanchored
        decided 3 undecided 0 prompts undecided 0
        void {}
    "#]]);
}

#[test]
fn my_own_votes_do_not_label_me() {
    check(expect![[r#"
        # A alone is certain of 9; everybody else must learn it is the consensus, A must not learn 9 from itself
        rules supporters=1 tau=0
        A: 9 9 9 9
        B: 7 7 - -
        C: 7 8 - -
        show votes
        ----
        consensus 9 share 333 by 1
        A: 7 share 375 by 2 pays [0, 0, 0, 0]
        B: 9 share 500 by 1 pays [0, 0, 0, 0]
        C: 9 share 500 by 1 pays [0, 0, 0, 0]
    "#]]);
}

#[test]
fn abstentions_and_unreadable_answers_lower_the_share() {
    check(expect![[r#"
        A: 7 7
        B: 7 7
        C: 7 7
        D: 7 7 | # abstains
        prompt
        A: 7 7
        B: 7 7
        C: 7 7
        D: - -   # unreadable
        prompt
        A: 7 7
        B: 7 7
        C: 7 7
        D: 8 8
        show votes
        show totals
        ----
        consensus 7 share 750 by 3
        A: 7 share 666 by 2 pays [1000, 1000]
        B: 7 share 666 by 2 pays [1000, 1000]
        C: 7 share 666 by 2 pays [1000, 1000]
        D: 7 share 1000 by 3 pays [1000, 1000]
        consensus 7 share 750 by 3
        A: 7 share 666 by 2 pays [1000, 1000]
        B: 7 share 666 by 2 pays [1000, 1000]
        C: 7 share 666 by 2 pays [1000, 1000]
        D: 7 share 1000 by 3 pays [0, 0]
        consensus 7 share 750 by 3
        A: 7 share 666 by 2 pays [1000, 1000]
        B: 7 share 666 by 2 pays [1000, 1000]
        C: 7 share 666 by 2 pays [1000, 1000]
        D: 7 share 1000 by 3 pays [0, 0]
        decided 12 undecided 0 prompts undecided 0
        void {}
    "#]]);
}

#[test]
fn the_gate_is_on_the_share_of_the_others() {
    check(expect![[r#"
        rules tau=500
        A: 7 7 7 7
        B: 7 7 8 9
        C: 7 7 - -
        D: 7 - - -
        show votes
        ----
        consensus 7 share 562 by 4
        A: undecided, BelowGate: 7 share 416 by 3
        B: 7 share 583 by 3 pays [1000, 1000, 0, 0]
        C: 7 share 583 by 3 pays [1000, 1000, 0, 0]
        D: 7 share 666 by 3 pays [1000, 0, 0, 0]
    "#]]);
}

#[test]
fn two_of_the_others_must_stand_behind_a_label() {
    check(expect![[r#"
        A: 7 7 7 7
        B: 7 8 8 8
        C: 9 9 9 9
        show votes
        prompt                       # weight 0 is no support
        know A accuracy=300 ballots=40
        know B accuracy=300 ballots=40
        know C accuracy=300 ballots=40
        know Z accuracy=0 ballots=40
        A: 5 5
        B: 7 7
        C: 6 8
        Z: 7 7
        settle
        show votes
        show weights
        ----
        consensus 7 share 416 by 2
        A: undecided, TooFewSupporters: 9 share 500 by 1
        B: undecided, TooFewSupporters: 7 share 500 by 1
        C: 7 share 625 by 2 pays [0, 0, 0, 0]
        consensus 7 share 416 by 2
        A: undecided, TooFewSupporters: 9 share 500 by 1
        B: undecided, TooFewSupporters: 7 share 500 by 1
        C: 7 share 625 by 2 pays [0, 0, 0, 0]
        Z: 7 share 416 by 2
        consensus 5 share 333 by 1
        A: undecided, TooFewSupporters: 7 share 500 by 1
        B: undecided, TooFewSupporters: 5 share 500 by 1
        C: undecided, TooFewSupporters: 5 share 500 by 1
        Z: undecided, TooFewSupporters: 5 share 333 by 1
        A 1000000  B 1000000  C 1000000  Z 0
    "#]]);
}

#[test]
fn fewer_than_three_voters_train_nobody() {
    check(expect![[r#"
        A: 7 7
        B: 7 7
        show votes
        clear
        know J joiner
        A: 7 7
        B: 7 7
        J: 7 7
        settle
        show votes
        ----
        consensus 7 share 1000 by 2
        A: undecided, TooFewVoters: 7 share 1000 by 1
        B: undecided, TooFewVoters: 7 share 1000 by 1
        consensus 7 share 1000 by 2
        A: undecided, TooFewVoters: 7 share 1000 by 1
        B: undecided, TooFewVoters: 7 share 1000 by 1
        J: undecided, TooFewVoters: 7 share 1000 by 2
    "#]]);
}

#[test]
fn nobody_votes() {
    check(expect![[r#"
        A: - -
        B: 7 7 |
        C: 8 |
        show votes
        prompt
        settle
        show votes
        ----
        no consensus
        A: undecided, NoBallots: - share 0 by 0
        B: undecided, NoBallots: - share 0 by 0
        C: undecided, NoBallots: - share 0 by 0
        no consensus
        A: undecided, NoBallots: - share 0 by 0
        B: undecided, NoBallots: - share 0 by 0
        C: undecided, NoBallots: - share 0 by 0
        no consensus
        A: undecided, NoBallots: - share 0 by 0
        B: undecided, NoBallots: - share 0 by 0
        C: undecided, NoBallots: - share 0 by 0
    "#]]);
}

#[test]
fn ties_go_to_the_lowest_id() {
    check(expect![[r#"
        A: b a
        B: b a
        C: a b
        show votes
        prompt
        A: b a
        B: b a
        C: a b
        A ? a=-1 b=0   # the smallest difference in critiques goes first
        B ? a=-1 b=0
        C ? a=-1 b=0
        settle
        show votes
        ----
        consensus a share 500 by 3
        A: a share 500 by 2 pays [0, 1000]
        B: a share 500 by 2 pays [0, 1000]
        C: a share 500 by 2 pays [1000, 0]
        consensus a share 500 by 3
        A: a share 500 by 2 pays [0, 1000]
        B: a share 500 by 2 pays [0, 1000]
        C: a share 500 by 2 pays [1000, 0]
        consensus b share 500 by 3
        A: b share 500 by 2 pays [1000, 0]
        B: b share 500 by 2 pays [1000, 0]
        C: b share 500 by 2 pays [0, 1000]
    "#]]);
}

#[test]
fn critiques_break_what_counts_cannot() {
    check(expect![[r#"
        A: 7 7 - -
        B: 7 8 8 8
        C: 8 9 - -
        D: 7 - - -
        show votes
        A ? 7=-100 8=-1500 9=-800
        B ? 7=-150 8=-1200 9=-900
        C ? 7=-120 8=-1100 9=-900
        D ? 7=-120 8=-1100 9=-900
        settle
        show votes
        ----
        consensus 7 share 250 by 3
        A: 8 share 333 by 2 pays [0, 0, 0, 0]
        B: 7 share 250 by 2 pays [1000, 0, 0, 0]
        C: 7 share 333 by 3 pays [0, 0, 0, 0]
        D: 8 share 333 by 2 pays [0, 0, 0, 0]
        consensus 7 share 250 by 3
        A: undecided, BelowGate: 7 share 166 by 2
        B: 7 share 250 by 2 pays [1000, 0, 0, 0]
        C: 7 share 333 by 3 pays [0, 0, 0, 0]
        D: 7 share 250 by 2 pays [1000, 0, 0, 0]
    "#]]);
}

#[test]
fn slanderous_critiques_do_not_flip_a_vote() {
    check(expect![[r#"
        A: 7 7 7 8
        B: 7 7 9 9
        C: 7 9 - -
        L: 9 9 9 9
        A ? 7=-100 8=-900 9=-800
        B ? 7=-150 8=-950 9=-850
        C ? 7=-120 8=-900 9=-900
        L ? 7=-4000 8=-4000 9=0
        show votes
        ----
        consensus 7 share 375 by 3
        A: 7 share 250 by 2 pays [1000, 1000, 1000, 0]
        B: 7 share 333 by 2 pays [1000, 1000, 0, 0]
        C: 7 share 416 by 2 pays [1000, 0, 0, 0]
        L: 7 share 500 by 3 pays [0, 0, 0, 0]
    "#]]);
}

#[test]
fn praise_of_an_answer_that_only_oneself_gave_does_not_count() {
    check(expect![[r#"
        # L weighs twice as much as anybody; heard on its own x, it would outweigh A's silence
        know A accuracy=300
        know B accuracy=300
        know C accuracy=300
        know L accuracy=600
        A: 7 7 8 8
        B: 7 7 9 9
        C: 7 7 - -
        L: x x - -
        A ? 7=-1000 8=-2000 9=-2000
        L ? 7=-4000 x=0
        show weights
        show votes
        ----
        A 500000  B 500000  C 500000  L 1000000
        consensus 7 share 300 by 3
        A: 7 share 250 by 2 pays [1000, 1000, 0, 0]
        B: 7 share 250 by 2 pays [1000, 1000, 0, 0]
        C: 7 share 250 by 2 pays [1000, 1000, 0, 0]
        L: 7 share 500 by 3 pays [0, 0, 0, 0]
    "#]]);
}

#[test]
fn between_two_critics_the_more_sceptical_one_is_believed() {
    check(expect![[r#"
        # medians: 7 -1500 against 8 -1000; were the higher one taken, 7 would win with -100
        A: 7 7 8 8
        B: 7 7 8 8
        C: 7 7 8 8
        D: 7 7 8 8
        A ? 7=-1500 8=-1000
        B ? 7=-100 8=-1000
        show votes
        ----
        consensus 8 share 500 by 4
        A: 7 share 500 by 3 pays [1000, 1000, 0, 0]
        B: 7 share 500 by 3 pays [1000, 1000, 0, 0]
        C: 8 share 500 by 3 pays [0, 0, 1000, 1000]
        D: 8 share 500 by 3 pays [0, 0, 1000, 1000]
    "#]]);
}

#[test]
fn founders_named_by_the_manifest_are_the_only_ones_to_vote_at_once() {
    check(expect![[r#"
        found A B C
        A: 7 7
        B: 7 7
        C: 7 7
        J: 8 8
        gold 7
        show weights
        ----
        A 1000000  B 1000000  C 1000000  J 0 unanchored
    "#]]);
}

#[test]
fn a_candidate_without_a_critique_is_worth_the_least_where_others_have_one() {
    check(expect![[r#"
        A: 7 7 8 8
        B: 7 7 8 8
        C: 7 8 8 8
        A ? 7=-3000
        B ? 7=-3000
        C ? 7=-3000
        show votes
        ----
        consensus 7 share 416 by 3
        A: 7 share 375 by 2 pays [1000, 1000, 0, 0]
        B: 7 share 375 by 2 pays [1000, 1000, 0, 0]
        C: 7 share 500 by 2 pays [1000, 0, 0, 0]
    "#]]);
}

#[test]
fn one_critic_among_silent_peers_decides_nothing() {
    check(expect![[r#"
        A: 7 7 7 -
        B: 7 7 8 9
        C: 7 7 7 9
        L: 8 8 8 8
        L ? 8=0 7=-4000
        show votes
        ----
        consensus 7 share 500 by 3
        A: 7 share 416 by 2 pays [1000, 1000, 1000, 0]
        B: 7 share 500 by 2 pays [1000, 1000, 0, 0]
        C: 7 share 416 by 2 pays [1000, 1000, 1000, 0]
        L: 7 share 666 by 3 pays [0, 0, 0, 0]
    "#]]);
}

#[test]
fn praise_of_what_nobody_else_can_read_is_outweighed_by_their_silence() {
    check(expect![[r#"
        # heard only on x, L and M would have it score 2000, and 7 scores 2500 * exp(-1.2) = 753
        A: 7 7 7 8
        B: 7 7 7 9
        C: 7 7 7 9
        D: 7 - - -
        L: x x x x
        M: x x x x
        A ? 7=-400 8=-900 9=-900
        B ? 7=-400 8=-900 9=-900
        C ? 7=-400 8=-900 9=-900
        D ? 7=-400 8=-900 9=-900
        L ? x=0
        M ? x=0
        show votes
        ----
        consensus 7 share 416 by 4
        A: 7 share 350 by 3 pays [1000, 1000, 1000, 0]
        B: 7 share 350 by 3 pays [1000, 1000, 1000, 0]
        C: 7 share 350 by 3 pays [1000, 1000, 1000, 0]
        D: 7 share 450 by 3 pays [1000, 0, 0, 0]
        L: 7 share 500 by 4 pays [0, 0, 0, 0]
        M: 7 share 500 by 4 pays [0, 0, 0, 0]
    "#]]);
}

#[test]
fn newcomers_who_fail_on_purpose_shield_nobody() {
    check(expect![[r#"
        roster A B C L
        rules gold=1000
        A: 7 7
        B: 7 7
        C: 7 7
        L: 8 8
        gold 7
        settle
        clear
        roster A B C L X Y Z W V
        A: 7 7
        B: 7 7
        C: 7 7
        L: 8 8
        X: 8 8
        Y: 8 8
        Z: 8 8
        W: 8 8
        V: 8 8
        gold 7
        withheld L
        withheld X
        withheld Y
        withheld Z
        withheld W
        withheld V
        settle 2
        show gold
        show reputation
        ----
        drawn [0] consensus right 1 labels right 9/9
        A tried 1 mass 1000
        B tried 1 mass 1000
        C tried 1 mass 1000
        L tried 1 mass 0
        V tried 1 mass 0
        W tried 1 mass 0
        X tried 1 mass 0
        Y tried 1 mass 0
        Z tried 1 mass 0
        A accuracy 604871 ballots 2 liveness 1000 critic 0 weight 1000000
        B accuracy 604871 ballots 2 liveness 1000 critic 0 weight 1000000
        C accuracy 604871 ballots 2 liveness 1000 critic 0 weight 1000000
        L accuracy 197564 ballots 2 liveness 250 critic 0 weight 81655
        V accuracy 248730 ballots 1 liveness 250 critic 0 weight 0
        W accuracy 248730 ballots 1 liveness 250 critic 0 weight 0
        X accuracy 248730 ballots 1 liveness 250 critic 0 weight 0
        Y accuracy 248730 ballots 1 liveness 250 critic 0 weight 0
        Z accuracy 248730 ballots 1 liveness 250 critic 0 weight 0
    "#]]);
}

#[test]
fn one_colluding_liar_in_four() {
    check(expect![[r#"
        # honest peers as the embedded bases are: right in three of eight, the rest diffuse
        A: 7 7 7 1 2 3 4 -
        B: 7 7 7 2 5 6 - -
        C: 7 7 7 3 6 9 8 8
        L: 8 8 8 8 8 8 8 8
        A ? 7=-200 8=-2000 1=-2500 2=-2600 3=-2600 4=-2600 5=-2600 6=-2600 9=-2600
        B ? 7=-220 8=-2100 1=-2500 2=-2600 3=-2600 4=-2600 5=-2600 6=-2600 9=-2600
        C ? 7=-180 8=-1900 1=-2500 2=-2600 3=-2600 4=-2600 5=-2600 6=-2600 9=-2600
        L ? 7=-4000 8=0
        show votes
        ----
        consensus 7 share 281 by 3
        A: 7 share 250 by 2 pays [1000, 1000, 1000, 0, 0, 0, 0, 0]
        B: 7 share 250 by 2 pays [1000, 1000, 1000, 0, 0, 0, 0, 0]
        C: 7 share 250 by 2 pays [1000, 1000, 1000, 0, 0, 0, 0, 0]
        L: 7 share 375 by 3 pays [0, 0, 0, 0, 0, 0, 0, 0]
    "#]]);
}

#[test]
fn one_colluding_liar_in_four_without_critiques_wins_until_gold_tells() {
    check(expect![[r#"
        A: 7 7 7 1 2 3 4 -
        B: 7 7 7 2 5 6 - -
        C: 7 7 7 3 6 9 8 8
        L: 8 8 8 8 8 8 8 8
        gold 7
        show votes
        settle
        show weights
        show votes
        settle 3
        show weights
        show votes
        ----
        consensus 8 share 312 by 2
        A: 8 share 416 by 2 pays [0, 0, 0, 0, 0, 0, 0, 0]
        B: 8 share 416 by 2 pays [0, 0, 0, 0, 0, 0, 0, 0]
        C: undecided, TooFewSupporters: 8 share 333 by 1
        L: 7 share 375 by 3 pays [0, 0, 0, 0, 0, 0, 0, 0]
        A 1000000  B 1000000  C 1000000  L 723245
        consensus 7 share 302 by 3
        A: 8 share 357 by 2 pays [0, 0, 0, 0, 0, 0, 0, 0]
        B: 8 share 357 by 2 pays [0, 0, 0, 0, 0, 0, 0, 0]
        C: 7 share 275 by 2 pays [1000, 1000, 1000, 0, 0, 0, 0, 0]
        L: 7 share 375 by 3 pays [0, 0, 0, 0, 0, 0, 0, 0]
        A 1000000  B 1000000  C 1000000  L 387881
        consensus 7 share 332 by 3
        A: 7 share 314 by 2 pays [1000, 1000, 1000, 0, 0, 0, 0, 0]
        B: 7 share 314 by 2 pays [1000, 1000, 1000, 0, 0, 0, 0, 0]
        C: 7 share 314 by 2 pays [1000, 1000, 1000, 0, 0, 0, 0, 0]
        L: 7 share 375 by 3 pays [0, 0, 0, 0, 0, 0, 0, 0]
    "#]]);
}

#[test]
fn camouflage_works_only_until_gold_catches_up() {
    check(expect![[r#"
        # forty rounds better than everybody, then always wrong, and nobody criticises: .98 a round forgets slowly
        A: 7 7 7 1
        B: 7 7 2 3
        C: 7 7 8 -
        L: 7 7 7 7
        gold 7
        settle 40
        show weights
        clear
        A: 7 7 7 1
        B: 7 7 2 3
        C: 7 7 8 -
        L: 8 8 8 8
        gold 7
        settle
        show votes
        settle 40
        show weights
        show votes
        settle 40
        show weights
        ----
        A 754102  B 508204  C 508204  L 1000000
        consensus 8 share 406 by 2
        A: 8 share 559 by 2 pays [0, 0, 0, 0]
        B: 8 share 498 by 2 pays [0, 0, 0, 0]
        C: undecided, TooFewSupporters: 8 share 442 by 1
        L: 7 share 606 by 3 pays [0, 0, 0, 0]
        A 1000000  B 668855  C 668855  L 414925
        consensus 7 share 515 by 3
        A: 7 share 381 by 2 pays [1000, 1000, 1000, 0]
        B: 7 share 520 by 2 pays [1000, 1000, 0, 0]
        C: 7 share 520 by 2 pays [1000, 1000, 0, 0]
        L: 7 share 606 by 3 pays [0, 0, 0, 0]
        A 1000000  B 667526  C 667526  L 0
    "#]]);
}

#[test]
fn stuffed_ballots_are_void_as_a_whole() {
    check(expect![[r#"
        A: 7 7
        B: 7 7
        C: 7 8
        L: 8 8 | 7=1 8=1000
        gold 8
        show votes
        show totals
        settle
        show gold
        ----
        consensus 7 share 625 by 3
        A: 7 share 500 by 2 pays [1000, 1000]
        B: 7 share 500 by 2 pays [1000, 1000]
        C: 7 share 666 by 2 pays [1000, 0]
        L: 7 share 833 by 3 pays [0, 0]
        void: L Overfull
        decided 4 undecided 0 prompts undecided 0
        void {Overfull: 1}
        drawn [0] consensus right 0 labels right 0/4 forgiven
        A tried 1 mass 0
        B tried 1 mass 0
        C tried 1 mass 500
        L tried 1 mass 0
    "#]]);
}

#[test]
fn votes_from_outside_the_roster_and_for_unrevealed_answers_do_not_count() {
    check(expect![[r#"
        A: 7 7
        B: 7 7 | 7=400 zzz=600
        C: 7 8
        !X: 8 8 8 8
        !Y: new new
        X ? 7=-4000 8=0
        show votes
        show totals
        ----
        consensus 7 share 633 by 3
        A: 7 share 450 by 2 pays [1000, 1000]
        B: 7 share 750 by 2 pays [1000, 1000]
        C: 7 share 700 by 2 pays [1000, 0]
        void: B UnknownCandidate
        void: X NotInRoster
        void: Y NotInRoster
        decided 3 undecided 0 prompts undecided 0
        void {NotInRoster: 2, UnknownCandidate: 1}
    "#]]);
}

#[test]
fn gold_is_drawn_a_round_later_a_fifth_of_the_prompts_one_at_least() {
    check(expect![[r#"
        A: 7 8
        B: 7 7
        C: 7 -
        gold 7
        prompt
        A: 7 8
        B: 9 9
        C: 9 9
        gold 7
        prompt       # no reference answer: never drawn
        A: 7 8
        B: 7 7
        C: 7 7
        show gold    # nothing pending yet
        settle
        show gold
        settle
        show gold
        settle
        show gold
        rules gold=1000
        settle
        show gold
        ----
        drawn [] consensus right 0 labels right 0/0
        drawn [1] consensus right 0 labels right 0/1 forgiven
        A tried 1 mass 500
        B tried 1 mass 0
        C tried 1 mass 0
        drawn [1] consensus right 0 labels right 0/1 forgiven
        A tried 1 mass 500
        B tried 1 mass 0
        C tried 1 mass 0
        drawn [1] consensus right 0 labels right 0/1 forgiven
        A tried 1 mass 500
        B tried 1 mass 0
        C tried 1 mass 0
        drawn [0, 1] consensus right 1 labels right 3/4
        A tried 2 mass 500
        B tried 2 mass 500
        C tried 2 mass 250
    "#]]);
}

#[test]
fn an_empty_ballot_on_an_answered_prompt_is_a_failed_trial_a_lost_vote_is_none() {
    check(expect![[r#"
        rules gold=1000
        A: 7 7
        B: 7 7
        C: 7 7 |     # voted below, so this was a choice
        D: 7 7 |     # voted nowhere: late or lost
        gold 7
        prompt
        A: 7 7
        B: 7 7
        C: 7 7
        D: 7 7 |
        gold 7
        settle 2
        show gold
        ----
        drawn [0, 1] consensus right 2 labels right 6/6
        A tried 2 mass 1000
        B tried 2 mass 1000
        C tried 2 mass 500
    "#]]);
}

#[test]
fn weights_after_ten_rounds_of_honest_third_against_liar() {
    check(expect![[r#"
        rules gold=1000
        roster A B C L
        A: 7 1 2
        B: 7 3 4
        C: 7 5 -
        L: 8 8 8
        gold 7
        prompt
        A: 7 1 2
        B: 7 3 4
        C: 7 5 -
        L: 8 8 8
        gold 7
        prompt
        A: 7 1 2
        B: 7 3 4
        C: 7 5 -
        L: 8 8 8
        gold 7
        settle 1
        show weights
        settle 9     # nine draws of three: 27 ballots
        show weights
        settle
        show weights # the 30th ballot cuts
        show reputation
        ----
        A 1000000  B 1000000  C 1000000  L 1000000 unanchored
        A 1000000  B 1000000  C 1000000  L 91238
        A 1000000  B 1000000  C 1000000  L 0
        A accuracy 333027 ballots 30 liveness 1000 critic 0 weight 1000000
        B accuracy 333027 ballots 30 liveness 1000 critic 0 weight 1000000
        C accuracy 333027 ballots 30 liveness 1000 critic 0 weight 1000000
        L accuracy 27335 ballots 30 liveness 1000 critic 0 weight 0
    "#]]);
}

#[test]
fn the_cut_needs_thirty_gold_ballots() {
    check(expect![[r#"
        roster A B K L
        know A accuracy=500 ballots=29
        know B accuracy=500 ballots=30
        know K accuracy=199 ballots=29
        know L accuracy=199 ballots=30
        settle
        show weights
        know K accuracy=200 ballots=30
        settle
        show weights
        ----
        A 1000000  B 1000000  K 398000  L 0
        A 1000000  B 1000000  K 400000  L 0
    "#]]);
}

#[test]
fn no_blame_where_most_fail() {
    check(expect![[r#"
        rules gold=1000
        A: 1 2       # gold is wrong, or the prompt out of reach
        B: 3 4
        C: 7 8
        gold 7
        late A
        late B
        settle 2
        show gold
        show totals
        show reputation
        clear
        A: 7 2
        B: 7 4
        C: 1 8
        gold 7
        late A
        settle 2
        show gold
        show totals
        show reputation
        ----
        drawn [0] consensus right 0 labels right 0/0 forgiven
        A tried 1 mass 0
        B tried 1 mass 0
        C tried 1 mass 500
        decided 0 undecided 3 prompts undecided 1
        void {} conduct forgiven
        A accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        B accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        C accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        drawn [0] consensus right 1 labels right 1/1
        A tried 1 mass 500
        B tried 1 mass 500
        C tried 1 mass 0
        decided 1 undecided 2 prompts undecided 0
        void {}
        A accuracy 375634 ballots 1 liveness 640 critic 0 weight 640000
        B accuracy 375634 ballots 1 liveness 1000 critic 0 weight 1000000
        C accuracy 248730 ballots 1 liveness 1000 critic 0 weight 662160
    "#]]);
}

#[test]
fn joiners_wait_and_founders_do_not() {
    check(expect![[r#"
        rules probation=4 gold=1000
        A: 7 7
        B: 7 7
        C: 7 8
        gold 7
        prompt
        A: 7 7
        B: 7 7
        C: 7 8
        gold 7
        settle
        clear
        roster A B C J
        A: 7 7
        B: 7 7
        C: 7 8
        J: 7 7
        gold 7
        prompt
        A: 7 7
        B: 7 7
        C: 7 8
        J: 7 7
        gold 7
        settle
        show weights
        settle
        show weights
        settle
        show weights
        ----
        A 1000000  B 1000000  C 664429  J 0
        A 1000000  B 1000000  C 597593  J 0
        A 1000000  B 1000000  C 568981  J 917687
    "#]]);
}

#[test]
fn without_gold_all_are_equal_joiners_too() {
    check(expect![[r#"
        A: 7 7
        B: 7 7
        C: 7 8
        settle
        J: 9 9
        settle
        show weights
        show gold
        late J
        settle
        settle
        show weights
        ----
        A 1000000  B 1000000  C 1000000  J 1000000 unanchored
        drawn [] consensus right 0 labels right 0/0
        A 1000000  B 1000000  C 1000000  J 800000 unanchored
    "#]]);
}

#[test]
fn liveness_falls_fast_and_comes_back_slowly() {
    check(expect![[r#"
        A: 7 7
        B: 7 7
        C: 7 7
        D: 7 7
        withheld D
        late C
        settle
        show reputation
        clear
        A: 7 7
        B: 7 7
        C: 7 7
        D: 7 7
        settle 2
        show reputation
        settle 3
        show reputation
        ----
        A accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        B accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        C accuracy 333333 ballots 0 liveness 800 critic 0 weight 800000
        D accuracy 333333 ballots 0 liveness 500 critic 0 weight 500000
        A accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        B accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        C accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        D accuracy 333333 ballots 0 liveness 700 critic 0 weight 700000
        A accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        B accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        C accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
        D accuracy 333333 ballots 0 liveness 1000 critic 0 weight 1000000
    "#]]);
}

#[test]
fn one_outstanding_peer_does_not_silence_the_others() {
    check(expect![[r#"
        roster A B C S
        know A accuracy=300 ballots=40
        know B accuracy=330 ballots=40
        know C accuracy=350 ballots=40
        know S accuracy=1000 ballots=40
        settle
        show weights
        rules cap=1000000   # uncapped
        settle
        show weights
        ----
        A 428571  B 471428  C 500000  S 1000000
        A 0  B 0  C 0  S 1000000
    "#]]);
}

#[test]
fn half_of_a_roster_of_liars_does_not_move_the_cap() {
    check(expect![[r#"
        roster A B L M
        know A accuracy=330 ballots=20
        know B accuracy=320 ballots=20
        know L accuracy=10 ballots=20
        know M accuracy=10 ballots=20
        settle
        show weights
        ----
        A 1000000  B 969696  L 30303  M 30303
    "#]]);
}

#[test]
fn critics_are_paid_for_telling_right_from_wrong_and_for_nothing_else() {
    check(expect![[r#"
        rules gold=1000
        A: 7 8 9
        B: 7 8 9
        C: 7 8 9
        D: 7 8 9
        E: 7 8 9
        A ? 7=-100 8=-900 9=-900     # right
        B ? 7=-900 8=-100 9=-100     # the wrong way round
        C ? 7=-4000 8=-4000 9=-4000  # "always wrong"
        D ? 7=-100 8=-50 9=-900      # half and half
        E ? 8=-50 9=-900             # says nothing about the right answer
        gold 7
        settle 2
        show reputation
        ----
        A accuracy 333248 ballots 1 liveness 1000 critic 1000 weight 1000000
        B accuracy 333248 ballots 1 liveness 1000 critic -1000 weight 1000000
        C accuracy 333248 ballots 1 liveness 1000 critic 0 weight 1000000
        D accuracy 333248 ballots 1 liveness 1000 critic 0 weight 1000000
        E accuracy 333248 ballots 1 liveness 1000 critic 0 weight 1000000
    "#]]);
}
