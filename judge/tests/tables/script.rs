//! Reads and settles a script.

use std::collections::BTreeMap;
use std::fmt::Write;

use expect_test::Expect;
use judge::{
    CandidateId, Conduct, Label, PeerKey, PromptVotes, Reputation, RoundVotes, Rules, Settlement, State,
    ballot_from_completions, settle, weights,
};

pub(crate) fn check(table: Expect) {
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
            let votes = RoundVotes {
                roster,
                prompts: self.prompts.clone(),
                gold_seed,
                conduct,
                ..RoundVotes::default()
            };
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
