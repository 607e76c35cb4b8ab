//! The tables of a dataset: JSON Lines, an object for each thing that was said in a round or came of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use judge::{CandidateId, Label, PeerKey, Reason, Verdict};
use serde::Serialize;
use swarm::message::TextCritique;
use swarm::replay::Transcript;
use tasks::{Answer, Item};

/// What a column holds, as Python's `datasets` calls it; any of them may be null.
pub(super) const INTEGER: &str = "int64";
const TEXT: &str = "string";
pub(super) const BOOL: &str = "bool";

/// A column: name, type, meaning.
pub(super) type Column = (&'static str, &'static str, &'static str);

/// A table of a dataset.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// What a row is.
    pub(super) row: &'static str,
    /// Besides those of [`PLACE`].
    pub(super) columns: &'static [Column],
}

/// All columns of a table.
pub(super) fn columns(table: &Table) -> impl Iterator<Item = &'static Column> {
    PLACE.iter().chain(table.columns)
}

/// The first columns of every table: where in the run a row belongs.
const PLACE: [Column; 4] = [
    ("round", INTEGER, "round, from 1"),
    ("position", INTEGER, "place of the prompt in its round, from 0"),
    ("family", TEXT, "task family; the name of the pack in packs/"),
    ("item", TEXT, "id of the item in that pack"),
];

pub(super) const TABLES: [Table; 5] = [
    Table {
        name: "prompts",
        row: "a prompt of a round",
        columns: &[
            ("level", INTEGER, "difficulty within the family"),
            ("prompt", TEXT, "what the policies read"),
            ("reference", TEXT, "the pack's answer, if it has one"),
            ("candidates", INTEGER, "distinct answers given"),
            ("consensus", TEXT, "the answer that the vote settled on; null where no vote counted"),
            ("share_permille", INTEGER, "its part of the whole vote weight"),
            ("supporters", INTEGER, "peers that voted for it"),
        ],
    },
    Table {
        name: "completions",
        row: "a completion by a peer's policy",
        columns: &[
            ("peer", TEXT, "public key"),
            ("policy", TEXT, "hash of the weights, by the peer's word"),
            ("sample", INTEGER, "place among its completions of the prompt, from 0"),
            ("completion", TEXT, "the text"),
            ("answer", TEXT, "its canonical answer; null where it has none"),
            ("correct", BOOL, "whether that is the reference; null where there is none"),
            ("reward_permille", INTEGER, "what the vote paid for it; null where the label is undecided"),
        ],
    },
    Table {
        name: "critiques",
        row: "a peer's judgement of a candidate answer, by likelihood, in words, or both",
        columns: &[
            ("peer", TEXT, "public key"),
            ("candidate", TEXT, "id of the answer within the round"),
            ("answer", TEXT, "the answer; null where no included completion gave it"),
            ("millinats", INTEGER, "mean log-probability of a token, in milli-nats"),
            ("verdict", TEXT, "right, wrong or unclear"),
            ("reason", TEXT, "why, in the critic's words"),
        ],
    },
    Table {
        name: "votes",
        row: "a peer's vote for a candidate answer; no row where it abstained",
        columns: &[
            ("peer", TEXT, "public key"),
            ("candidate", TEXT, "id of the answer within the round"),
            ("answer", TEXT, "the answer; null where no included completion gave it"),
            ("permille", INTEGER, "part of the ballot"),
            ("weight_micro", INTEGER, "vote weight of the peer in that round; 1,000,000 is a whole vote"),
        ],
    },
    Table {
        name: "labels",
        row: "what the others' votes say a peer should have answered",
        columns: &[
            ("peer", TEXT, "public key"),
            ("decided", BOOL, "whether the prompt trained this peer"),
            ("answer", TEXT, "the answer, or the one that came closest"),
            ("share_permille", INTEGER, "its part of the others' vote weight"),
            ("supporters", INTEGER, "how many of the others stand behind it"),
            ("reason", TEXT, "the first test that it failed, where it is not decided"),
        ],
    },
];

#[derive(Clone, Debug, Serialize)]
struct Place<'a> {
    round: u32,
    position: usize,
    family: &'a str,
    item: &'a str,
}

#[derive(Debug, Serialize)]
struct PromptRow<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    level: u8,
    prompt: &'a str,
    reference: Option<&'a Answer>,
    candidates: usize,
    consensus: Option<&'a Answer>,
    share_permille: Option<u16>,
    supporters: Option<u32>,
}

#[derive(Debug, Serialize)]
struct CompletionRow<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    peer: String,
    policy: String,
    sample: usize,
    completion: &'a str,
    answer: Option<Answer>,
    correct: Option<bool>,
    reward_permille: Option<u16>,
}

#[derive(Debug, Serialize)]
struct CritiqueRow<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    peer: String,
    candidate: String,
    answer: Option<&'a Answer>,
    millinats: Option<i16>,
    verdict: Option<Verdict>,
    reason: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct VoteRow<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    peer: String,
    candidate: String,
    answer: Option<&'a Answer>,
    permille: u16,
    weight_micro: u32,
}

#[derive(Debug, Serialize)]
struct LabelRow<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    peer: String,
    decided: bool,
    answer: Option<&'a Answer>,
    share_permille: u16,
    supporters: u32,
    reason: Option<Reason>,
}

/// The tables while they are written.
pub(super) struct Writer {
    prompts: Lines,
    completions: Lines,
    critiques: Lines,
    votes: Lines,
    labels: Lines,
}

impl Writer {
    /// New tables in a directory that is there.
    ///
    /// # Errors
    /// A file that cannot be made.
    pub(super) fn create(dir: &Path) -> anyhow::Result<Self> {
        let [prompts, completions, critiques, votes, labels] =
            TABLES.map(|table| Lines::create(dir.join(format!("{}.jsonl", table.name))));
        Ok(Self {
            prompts: prompts?,
            completions: completions?,
            critiques: critiques?,
            votes: votes?,
            labels: labels?,
        })
    }

    /// Adds a round.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(super) fn add(&mut self, transcript: &Transcript) -> anyhow::Result<()> {
        let settled = &transcript.settled;
        let nothing = BTreeMap::new();
        for (position, item) in settled.schedule.iter().enumerate() {
            let name = item.name();
            let of = Prompt {
                place: Place { round: settled.round, position, family: item.family(), item: &name },
                item,
                answers: settled.candidates.get(position).unwrap_or(&nothing),
                transcript,
            };
            self.prompt(&of)?;
            self.completions(&of)?;
            self.critiques(&of)?;
            self.votes(&of)?;
            self.labels(&of)?;
        }
        Ok(())
    }

    fn prompt(&mut self, of: &Prompt<'_>) -> anyhow::Result<()> {
        let settled = of.transcript.settled.settlement.prompts.get(of.place.position);
        let consensus = settled.and_then(|settled| settled.consensus);
        self.prompts.write(&PromptRow {
            place: of.place.clone(),
            level: of.item.level(),
            prompt: of.item.prompt(),
            reference: of.item.gold().map(tasks::Gold::answer),
            candidates: of.answers.len(),
            consensus: consensus.and_then(|consensus| of.answers.get(&consensus.candidate)),
            share_permille: consensus.map(|consensus| consensus.share_permille),
            supporters: consensus.map(|consensus| consensus.supporters),
        })
    }

    fn completions(&mut self, of: &Prompt<'_>) -> anyhow::Result<()> {
        let settled = of.transcript.settled.settlement.prompts.get(of.place.position);
        for (peer, answers) in &of.transcript.answers {
            let rewards = settled.and_then(|settled| settled.rewards.get(peer));
            let completions = answers.completions.get(of.place.position).map_or(&[][..], Vec::as_slice);
            for (sample, completion) in completions.iter().enumerate() {
                let answer = of.item.parse(completion);
                let right = |gold: &tasks::Gold| answer.as_ref().is_some_and(|answer| gold.matches(answer));
                self.completions.write(&CompletionRow {
                    place: of.place.clone(),
                    peer: peer.hex(),
                    policy: answers.policy.to_string(),
                    sample,
                    completion,
                    correct: of.item.gold().map(right),
                    answer,
                    reward_permille: rewards.and_then(|rewards| rewards.get(sample)).copied(),
                })?;
            }
        }
        Ok(())
    }

    fn critiques(&mut self, of: &Prompt<'_>) -> anyhow::Result<()> {
        let mut said: BTreeMap<(PeerKey, CandidateId), Judged<'_>> = BTreeMap::new();
        for (peer, prompts) in &of.transcript.scores {
            for score in prompts.get(of.place.position).into_iter().flatten() {
                said.entry((*peer, score.candidate)).or_default().millinats = Some(score.millinats);
            }
        }
        for (peer, text) in of.transcript.settled.critiques.get(of.place.position).into_iter().flatten() {
            said.entry((*peer, text.candidate)).or_default().text = Some(text);
        }
        for ((peer, candidate), Judged { millinats, text }) in said {
            self.critiques.write(&CritiqueRow {
                place: of.place.clone(),
                peer: peer.hex(),
                candidate: candidate.to_string(),
                answer: of.answers.get(&candidate),
                millinats,
                verdict: text.map(|text| text.verdict),
                reason: text.map(|text| &text.reason[..]),
            })?;
        }
        Ok(())
    }

    fn votes(&mut self, of: &Prompt<'_>) -> anyhow::Result<()> {
        let weights = &of.transcript.settled.settlement.weights;
        for (peer, prompts) in &of.transcript.ballots {
            for share in prompts.get(of.place.position).into_iter().flatten() {
                self.votes.write(&VoteRow {
                    place: of.place.clone(),
                    peer: peer.hex(),
                    candidate: share.candidate.to_string(),
                    answer: of.answers.get(&share.candidate),
                    permille: share.permille,
                    weight_micro: weights.get(peer).copied().unwrap_or(0),
                })?;
            }
        }
        Ok(())
    }

    fn labels(&mut self, of: &Prompt<'_>) -> anyhow::Result<()> {
        let settled = of.transcript.settled.settlement.prompts.get(of.place.position);
        for (peer, label) in settled.into_iter().flat_map(|settled| &settled.labels) {
            let (candidate, share_permille, supporters, reason) = match *label {
                Label::Decided { candidate, share_permille, supporters } => {
                    (Some(candidate), share_permille, supporters, None)
                }
                Label::Undecided { best, share_permille, supporters, reason } => {
                    (best, share_permille, supporters, Some(reason))
                }
            };
            self.labels.write(&LabelRow {
                place: of.place.clone(),
                peer: peer.hex(),
                decided: reason.is_none(),
                answer: candidate.and_then(|candidate| of.answers.get(&candidate)),
                share_permille,
                supporters,
                reason,
            })?;
        }
        Ok(())
    }

    /// Ends the tables; the rows of each. An empty one is removed: nothing can load it.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(super) fn finish(self) -> anyhow::Result<BTreeMap<&'static str, u64>> {
        let Self { prompts, completions, critiques, votes, labels } = self;
        let mut rows = BTreeMap::new();
        for (table, lines) in TABLES.iter().zip([prompts, completions, critiques, votes, labels]) {
            rows.insert(table.name, lines.finish()?);
        }
        Ok(rows)
    }
}

/// One prompt of a round, and what is known of it.
struct Prompt<'a> {
    place: Place<'a>,
    item: &'a Item,
    answers: &'a BTreeMap<CandidateId, Answer>,
    transcript: &'a Transcript,
}

/// What one critic said of one candidate.
#[derive(Default)]
struct Judged<'a> {
    millinats: Option<i16>,
    text: Option<&'a TextCritique>,
}

/// A file of JSON Lines while it is written.
struct Lines {
    path: PathBuf,
    file: BufWriter<File>,
    rows: u64,
}

impl Lines {
    fn create(path: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, file: BufWriter::new(file), rows: 0 })
    }

    fn write<T: Serialize>(&mut self, row: &T) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(row)?;
        line.push(b'\n');
        self.file.write_all(&line).with_context(|| format!("cannot write {}", self.path.display()))?;
        self.rows += 1;
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<u64> {
        let told = || format!("cannot write {}", self.path.display());
        self.file.flush().with_context(told)?;
        if self.rows == 0 {
            fs::remove_file(&self.path).with_context(told)?;
        }
        Ok(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use judge::{PromptSettlement, Settlement};
    use serde_json::{Value, json};
    use swarm::engine::Settled;
    use swarm::message::{Score, Share};
    use swarm::replay::Answers;
    use swarm::wire::Hash;
    use tasks::{Pack, Split};

    fn transcript(item: &Item, author: PeerKey, critic: PeerKey) -> Transcript {
        let right = item.gold().unwrap().answer().clone();
        let [known, unknown] = [right.as_str(), "no answer"].map(|answer| CandidateId::of(0, answer));
        let label = Label::Undecided {
            best: Some(known),
            share_permille: 300,
            supporters: 1,
            reason: Reason::BelowGate,
        };
        let text =
            TextCritique { candidate: known, verdict: Verdict::Right, reason: "I checked \"it\"".into() };
        let settlement = Settlement {
            prompts: vec![PromptSettlement {
                labels: [(author, label)].into(),
                ..PromptSettlement::default()
            }],
            weights: [(critic, 500_000)].into(),
            anchored: false,
            gold: judge::GoldReport::default(),
            labels_decided: 0,
            labels_undecided: 1,
            prompts_undecided: 1,
            voids: BTreeMap::new(),
            packs: BTreeMap::new(),
            levels: BTreeMap::new(),
            conduct_forgiven: false,
            audits: BTreeMap::new(),
            next: judge::State::default(),
        };
        let completions = vec![vec![item.direct(&right), "hm".into()]];
        let score = |candidate| Score { candidate, millinats: -7 };
        Transcript {
            settled: Settled {
                round: 9,
                view: 9,
                statement: Hash::default(),
                start: Hash([1; 32]),
                schedule: vec![item.clone()],
                roster: vec![author, critic],
                answered: vec![author],
                candidates: vec![[(known, right)].into()],
                ballots: Vec::new(),
                critiques: vec![vec![(critic, text)]],
                settlement,
                durations_ms: BTreeMap::new(),
                voids: 0,
            },
            answers: [(author, Answers { policy: Hash::default(), completions })].into(),
            scores: [(critic, vec![vec![score(known), score(unknown)]])].into(),
            ballots: [(critic, vec![vec![Share { candidate: unknown, permille: 1000 }]])].into(),
        }
    }

    #[test]
    fn rows_have_the_columns_that_the_card_tells_of() {
        let dir = tempfile::tempdir().unwrap();
        let item = &Pack::native("native:gcd").unwrap().sample("gcd", &[7; 32], Split::Train, 1, 1)[0];
        let mut writer = Writer::create(dir.path()).unwrap();
        writer.add(&transcript(item, PeerKey([1; 32]), PeerKey([2; 32]))).unwrap();
        let rows = writer.finish().unwrap();
        let mut all: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for table in &TABLES {
            let text = fs::read_to_string(dir.path().join(format!("{}.jsonl", table.name))).unwrap();
            let read: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(rows[table.name], read.len() as u64);
            for row in &read {
                let kind = |value: &Value| match value {
                    Value::Number(_) => INTEGER,
                    Value::Bool(_) => BOOL,
                    _ => TEXT,
                };
                let columns: Vec<&Column> = PLACE.iter().chain(table.columns).collect();
                let names: Vec<&str> = columns.iter().map(|(name, ..)| *name).collect();
                assert_eq!(row.as_object().unwrap().keys().collect::<Vec<_>>(), names, "{}", table.name);
                for (name, of, _) in columns {
                    assert!(row[name].is_null() || kind(&row[name]) == *of, "{name}: {row}");
                }
            }
            all.insert(table.name, read);
        }
        let told = |table: &str, fields: &[&str]| -> Vec<Value> {
            all[table].iter().map(|row| fields.iter().map(|field| row[field].clone()).collect()).collect()
        };
        let right = item.gold().unwrap().answer().as_str();
        assert_eq!(told("completions", &["answer", "correct"]), [json!([right, true]), json!([null, false])]);
        let mut critiques = told("critiques", &["answer", "millinats", "verdict", "reason"]);
        critiques.sort_by_key(|row| row[0].is_null());
        let in_words = json!([right, -7, "right", "I checked \"it\""]);
        assert_eq!(
            critiques,
            [in_words, json!([null, -7, null, null])],
            "by likelihood and in words at once"
        );
        assert_eq!(told("votes", &["answer", "weight_micro"]), [json!([null, 500_000])]);
        assert_eq!(told("labels", &["decided", "reason"]), [json!([false, "below_gate"])]);
        assert_eq!(told("prompts", &["consensus", "item"]), [json!([null, item.name()])]);
    }

    #[test]
    fn a_table_without_rows_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let rows = Writer::create(dir.path()).unwrap().finish().unwrap();
        assert!(rows.values().all(|rows| *rows == 0) && rows.len() == TABLES.len());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
