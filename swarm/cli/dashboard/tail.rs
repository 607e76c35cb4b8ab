//! Following a run directory: what was appended since the last look, as facts.
//!
//! Nothing is asked of whoever writes: a reader that is slow, stopped or gone costs a run nothing. The prompts of
//! rounds are only indexed, and read when somebody looks at them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::view::{Fact, View};
use crate::detail::RoundDetail;
use crate::growth::Growth;

/// Bytes taken from a file in one look; the rest comes with the next.
const LOOK_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Rounds whose prompts can be looked at.
const DETAILS_MAX: usize = 100_000;

/// A run directory and how far it was read.
#[derive(Debug)]
pub(crate) struct Tail {
    run: PathBuf,
    rounds: Lines,
    metrics: Lines,
    events: Lines,
    prompts: Lines,
    /// Where the prompts of a round are: offset and bytes.
    details: BTreeMap<u32, (u64, u64)>,
    wholes: BTreeMap<&'static str, Vec<u8>>,
    /// Lines and files that could not be read, and the last of them.
    pub(crate) damaged: usize,
    pub(crate) problem: Option<String>,
}

impl Tail {
    /// Follows a run directory from its beginning.
    pub(crate) fn new(run: &Path) -> Self {
        let lines = |name: &str| Lines { path: run.join(name), offset: 0 };
        Self {
            run: run.to_path_buf(),
            rounds: lines("rounds.jsonl"),
            metrics: lines("metrics.jsonl"),
            events: lines("events.jsonl"),
            prompts: lines("prompts.jsonl"),
            details: BTreeMap::new(),
            wholes: BTreeMap::new(),
            damaged: 0,
            problem: None,
        }
    }

    /// Folds what is new into the view; whether there was anything.
    pub(crate) fn look(&mut self, view: &mut View) -> bool {
        let before = (self.offsets(), self.damaged);
        // First: when it is there, everything before it is complete.
        let mut changed = self.whole("report.json", |report| Fact::Report(Box::new(report)), view);
        self.lines(|tail| &mut tail.rounds, Fact::Round, view);
        self.lines(|tail| &mut tail.metrics, Fact::Metrics, view);
        self.lines(|tail| &mut tail.events, Fact::Event, view);
        self.index();
        changed |= self.whole("status.json", Fact::Status, view);
        changed |= self.whole("network.json", Fact::Traffic, view);
        if self.rounds.offset != before.0[0] {
            view.fold(Fact::Growth(Growth::of(&self.run)));
        }
        changed | (before != (self.offsets(), self.damaged))
    }

    /// Everything that there is now.
    pub(crate) fn look_at_all(&mut self, view: &mut View) {
        loop {
            let before = self.offsets();
            self.look(view);
            if before == self.offsets() {
                return;
            }
        }
    }

    fn offsets(&self) -> [u64; 4] {
        [&self.rounds, &self.metrics, &self.events, &self.prompts].map(|lines| lines.offset)
    }

    fn lines<T: DeserializeOwned>(
        &mut self,
        of: impl Fn(&mut Self) -> &mut Lines,
        fact: impl Fn(T) -> Fact,
        view: &mut View,
    ) {
        let lines = of(self);
        let (name, fresh) = (lines.name(), lines.fresh());
        match fresh {
            Ok((_, text)) => {
                for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    match serde_json::from_slice(line) {
                        Ok(record) => view.fold(fact(record)),
                        Err(error) => self.damage(format!("{name} has a damaged line: {error}")),
                    }
                }
            }
            Err(error) => self.damage(format!("{name} cannot be read: {error}")),
        }
    }

    /// Notes where the new rounds' prompts are.
    fn index(&mut self) {
        #[derive(Deserialize)]
        struct Numbered {
            round: u32,
        }
        let (offset, text) = match self.prompts.fresh() {
            Ok(fresh) => fresh,
            Err(error) => return self.damage(format!("prompts.jsonl cannot be read: {error}")),
        };
        let mut at = offset;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            match serde_json::from_slice::<Numbered>(line) {
                Ok(numbered) => drop(self.details.insert(numbered.round, (at, line.len() as u64))),
                Err(error) => self.damage(format!("prompts.jsonl has a damaged line: {error}")),
            }
            at += line.len() as u64;
        }
        while self.details.len() > DETAILS_MAX {
            self.details.pop_first();
        }
    }

    /// The prompts of a round, if they are recorded and can be read.
    pub(crate) fn detail(&mut self, round: u32) -> Option<RoundDetail> {
        let (offset, len) = *self.details.get(&round)?;
        let read = || -> io::Result<RoundDetail> {
            let mut file = File::open(&self.prompts.path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut line = Vec::new();
            file.take(len.min(LOOK_BYTES_MAX)).read_to_end(&mut line)?;
            Ok(serde_json::from_slice(&line)?)
        };
        match read() {
            Ok(detail) => Some(detail),
            Err(error) => {
                self.details.remove(&round);
                self.damage(format!("the prompts of round {round} cannot be read: {error}"));
                None
            }
        }
    }

    /// Takes in a file that is replaced as a whole, if it changed.
    fn whole<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        fact: impl Fn(T) -> Fact,
        view: &mut View,
    ) -> bool {
        let mut bytes = Vec::new();
        let opened = File::open(self.run.join(name));
        if opened.and_then(|file| file.take(LOOK_BYTES_MAX).read_to_end(&mut bytes)).is_err() {
            // Not there yet.
            return false;
        }
        if self.wholes.get(name) == Some(&bytes) {
            return false;
        }
        match serde_json::from_slice(&bytes) {
            Ok(record) => view.fold(fact(record)),
            Err(error) => self.damage(format!("{name} is damaged: {error}")),
        }
        self.wholes.insert(name, bytes);
        true
    }

    fn damage(&mut self, problem: String) {
        self.damaged += 1;
        self.problem = Some(problem);
    }
}

/// A file of lines and how far it was read.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    offset: u64,
}

impl Lines {
    fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The complete lines since the last look, and where they begin; none where there is no file yet.
    fn fresh(&mut self) -> io::Result<(u64, Vec<u8>)> {
        let begin = self.offset;
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((begin, Vec::new())),
            Err(error) => return Err(error),
        };
        let len = file.metadata()?.len();
        if len <= begin {
            // A torn line was cut off; what is read already stays as it was.
            return Ok((begin, Vec::new()));
        }
        file.seek(SeekFrom::Start(begin))?;
        let mut text = Vec::new();
        file.take(LOOK_BYTES_MAX).read_to_end(&mut text)?;
        let complete = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if complete == 0 && text.len() as u64 == LOOK_BYTES_MAX {
            self.offset += LOOK_BYTES_MAX;
            return Err(io::Error::other(format!("a line is longer than {LOOK_BYTES_MAX} bytes")));
        }
        text.truncate(complete);
        self.offset += complete as u64;
        Ok((begin, text))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    use super::*;

    fn append(path: &Path, text: &str) {
        OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn only_whole_new_lines_are_folded() {
        let dir = tempfile::tempdir().unwrap();
        let (mut tail, mut view) = (Tail::new(dir.path()), View::default());
        assert!(!tail.look(&mut view));
        let rounds = dir.path().join("rounds.jsonl");
        append(&rounds, "{\"round\": 1}\n{\"rou");
        assert!(tail.look(&mut view) && view.rounds.len() == 1);
        assert!(!tail.look(&mut view));
        append(&rounds, "nd\": 2}\nnonsense\n{\"round\": 3}\n");
        assert!(tail.look(&mut view));
        assert_eq!(view.rounds.iter().map(|round| round.round).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(tail.damaged == 1 && tail.problem.as_ref().unwrap().contains("rounds.jsonl"), "{tail:?}");
    }

    #[test]
    fn prompts_are_read_when_somebody_looks() {
        let dir = tempfile::tempdir().unwrap();
        let (mut tail, mut view) = (Tail::new(dir.path()), View::default());
        let prompts = dir.path().join("prompts.jsonl");
        for round in 1..=3 {
            append(&prompts, &format!("{{\"round\":{round},\"peer\":\"p{round}\",\"prompts\":[]}}\n"));
        }
        tail.look_at_all(&mut view);
        assert_eq!(tail.detail(2).unwrap().peer, "p2");
        assert_eq!(tail.detail(4), None);
        fs::write(&prompts, "{}").unwrap();
        assert!(tail.detail(3).is_none() && tail.damaged == 1);
    }
}
