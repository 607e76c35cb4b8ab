//! One task: a prompt that travels nowhere (every peer derives it), and a reference answer that must
//! not.

use std::fmt;
use std::sync::Arc;

use crate::answer::Reading;
use crate::definition::Definition;
use crate::form::{Answer, Form};
use crate::lines::Line;

/// Content address of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId(pub [u8; 32]);

impl PackId {
    /// From `b3:` and 64 hexadecimal digits in lower case.
    ///
    /// ```
    /// let id = tasks::PackId([7; 32]);
    /// assert_eq!(tasks::PackId::parse(&id.to_string()), Some(id));
    /// assert_eq!(tasks::PackId::parse("b3:07"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("b3:")?.as_bytes();
        let lower = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() != 64 || !digits.iter().all(lower) {
            return None;
        }
        let mut id = [0; 32];
        for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(id))
    }
}

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("b3:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Content address of an item: pack, family and question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId(pub [u8; 16]);

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Which use an item is for; fixed by the hash of its text, the same in pretraining, in a swarm and
/// in evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    /// Six in eight: what is trained on.
    Train,
    /// One in eight: what choices are made by.
    Validation,
    /// One in eight: what is reported.
    Test,
}

impl Split {
    /// The split of a question of a family.
    pub fn of(family: &str, question: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("murmur v1 split");
        hasher.update(&(family.len() as u64).to_le_bytes());
        hasher.update(family.as_bytes());
        hasher.update(question.as_bytes());
        match hasher.finalize().as_bytes()[0] % 8 {
            0 => Self::Test,
            1 => Self::Validation,
            _ => Self::Train,
        }
    }

    /// `train`, `validation` or `test`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// A reference answer. It cannot be serialised, so no message can carry it:
///
/// ```compile_fail
/// fn travels<T: serde::Serialize>() {}
/// travels::<tasks::Gold>();
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Gold(Answer);

impl Gold {
    /// Whether `answer` is right.
    pub fn matches(&self, answer: &Answer) -> bool {
        self.0 == *answer
    }

    /// The reference answer.
    pub fn answer(&self) -> &Answer {
        &self.0
    }
}

impl fmt::Debug for Gold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gold(…)")
    }
}

#[derive(Debug)]
struct Inner {
    id: ItemId,
    family: String,
    level: u8,
    question: String,
    /// What the policy reads, where that is not the question.
    prompt: Option<String>,
    reading: Reading,
    gold: Option<Gold>,
    trace: Option<String>,
    origin: Option<Origin>,
}

/// Where an item of a folder's pack was written down.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) pack: PackId,
    pub(crate) definition: Arc<Definition>,
    /// The item's id in its file.
    pub(crate) id: String,
    pub(crate) choices: Vec<String>,
}

/// The content address of a question of a family.
fn address(pack: &PackId, family: &str, question: &str) -> ItemId {
    let mut hasher = blake3::Hasher::new_derive_key("murmur v1 item");
    hasher.update(&pack.0);
    hasher.update(&(family.len() as u64).to_le_bytes());
    hasher.update(family.as_bytes());
    hasher.update(question.as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    ItemId(id)
}

/// A task. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Item(Arc<Inner>);

impl Item {
    /// An item of a native family.
    pub(crate) fn native(
        pack: &PackId,
        family: &str,
        level: u8,
        question: String,
        form: Form,
        gold: Option<Answer>,
        trace: Option<String>,
    ) -> Self {
        Self(Arc::new(Inner {
            id: address(pack, family, &question),
            family: family.to_string(),
            level,
            question,
            prompt: None,
            reading: Reading { form, ..Reading::default() },
            gold: gold.map(Gold),
            trace,
            origin: None,
        }))
    }

    /// An item that was written down in a pack, which presents and reads it in its own way.
    pub(crate) fn written(pack: &PackId, definition: &Arc<Definition>, line: &Line) -> Self {
        let reading: Reading = definition.reading();
        let prompt = definition.prompt.show(&line.question, &line.choices);
        let gold = line.answer.as_deref().and_then(|text| reading.form.canonical(text));
        Self(Arc::new(Inner {
            id: address(pack, &definition.name, &line.question),
            family: definition.name.clone(),
            level: line.level,
            question: line.question.clone(),
            prompt: Some(prompt).filter(|prompt| *prompt != line.question),
            reading,
            gold: gold.map(Gold),
            trace: line.trace.clone(),
            origin: Some(Origin {
                pack: *pack,
                definition: definition.clone(),
                id: line.id.clone(),
                choices: line.choices.clone(),
            }),
        }))
    }

    /// Content address.
    pub fn id(&self) -> ItemId {
        self.0.id
    }

    /// What it is called in its pack: the id in the pack's file, or the content address of a native item in
    /// hexadecimal. One pack has it once.
    ///
    /// ```
    /// let pack = tasks::Pack::native("native:gcd").unwrap();
    /// let item = &pack.sample("gcd", &[7; 32], tasks::Split::Train, 1, 1)[0];
    /// assert_eq!(item.name(), item.id().to_string());
    /// ```
    pub fn name(&self) -> String {
        self.0.origin.as_ref().map_or_else(|| self.0.id.to_string(), |origin| origin.id.clone())
    }

    /// Family, such as `sum`; for a static pack its name.
    pub fn family(&self) -> &str {
        &self.0.family
    }

    /// Difficulty; higher is harder.
    pub fn level(&self) -> u8 {
        self.0.level
    }

    /// What the policy reads.
    pub fn prompt(&self) -> &str {
        self.0.prompt.as_deref().unwrap_or(&self.0.question)
    }

    /// What is asked, without what its pack puts around it.
    pub fn question(&self) -> &str {
        &self.0.question
    }

    /// The split it belongs to.
    pub fn split(&self) -> Split {
        Split::of(&self.0.family, &self.0.question)
    }

    /// The reference answer, where there is one.
    pub fn gold(&self) -> Option<&Gold> {
        self.0.gold.as_ref()
    }

    /// The canonical answer of a completion; `None` when it is not exactly of the expected form.
    ///
    /// ```
    /// let pack = tasks::Pack::native_six();
    /// let catalogue = tasks::Catalogue::new(vec![(pack, 1)]).unwrap();
    /// let item = &catalogue.schedule(&[7; 32], 1)[0];
    /// let right = item.direct(item.gold().unwrap().answer());
    /// assert!(item.gold().unwrap().matches(&item.parse(&right).unwrap()));
    /// assert_eq!(item.parse("the answer is 5"), None);
    /// ```
    pub fn parse(&self, completion: &str) -> Option<Answer> {
        self.0.reading.parse(completion)
    }

    /// How its completions are read.
    pub(crate) fn reading(&self) -> Reading {
        self.0.reading
    }

    /// Reasoning that leads to the answer.
    pub(crate) fn trace(&self) -> Option<&str> {
        self.0.trace.as_deref()
    }

    /// Where it was written down; nothing for a native item.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.0.origin.as_ref()
    }

    /// The reference completion with its reasoning, for pretraining; `None` without either.
    pub fn worked(&self) -> Option<String> {
        let (gold, trace) = (self.0.gold.as_ref()?, self.0.trace.as_deref()?);
        Some(self.0.reading.completion(Some(trace), gold.answer().as_str()))
    }

    /// A completion that gives `answer` without reasoning.
    pub fn direct(&self, answer: &Answer) -> String {
        self.0.reading.completion(None, answer.as_str())
    }

    /// A completion that gives any text as its answer.
    pub(crate) fn wrapped(&self, text: &str) -> String {
        self.0.reading.completion(None, text)
    }

    /// The canonical form of a bare answer.
    pub fn canonical(&self, text: &str) -> Option<Answer> {
        self.0.reading.form.canonical(text)
    }
}
