//! `murmur task play`: answer as a person, scored as a policy would be.

use std::io::BufRead;

use tasks::{Item, Split};

use super::{PlayArgs, preview};
use crate::exit::Outcome;
use crate::{packs, printer};

/// Bytes of a line that somebody types.
const LINE_BYTES_MAX: u64 = 4096;

/// Runs the command: questions on stdout, answers from stdin, one a line.
///
/// # Errors
/// A pack that is not there, a level that it does not have.
pub(super) fn run(args: &PlayArgs) -> anyhow::Result<Outcome> {
    let pack = packs::named(&args.pack.pack)?;
    let items = preview::items(&pack, Split::Train, args.items as usize, args.level)?;
    let mut input = std::io::stdin().lock();
    let (mut right, mut answered) = (0, 0);
    for (i, item) in items.iter().enumerate() {
        printer::data(&format!("[{}/{}, level {}] {}", i + 1, items.len(), item.level(), item.prompt()))?;
        let mut line = String::new();
        if std::io::Read::take(&mut input, LINE_BYTES_MAX).read_line(&mut line)? == 0 {
            break;
        }
        let (scores, verdict) = judge(item, line.trim());
        (right, answered) = (right + usize::from(scores), answered + 1);
        printer::data(&verdict)?;
    }
    printer::data(&format!("{right} of {answered} right"))?;
    Ok(Outcome::Done)
}

fn judge(item: &Item, text: &str) -> (bool, String) {
    let answer = item.canonical(text);
    match (item.gold(), answer) {
        (Some(gold), Some(answer)) if gold.matches(&answer) => (true, "right".into()),
        (Some(gold), Some(_)) => (false, format!("wrong: {}", gold.answer())),
        (Some(gold), None) => (false, format!("not an answer of this form: {}", gold.answer())),
        (None, Some(answer)) => (false, format!("{answer} it is; nobody knows the right answer")),
        (None, None) => (false, "not an answer of this form".into()),
    }
}
