//! Dishonest peers for the demo: they keep every rule of the protocol and lie in what they say.

use clap::ValueEnum;
use judge::CandidateId;
use tasks::Item;

/// What a liar does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lie {
    /// Always truth + 1, and the best of critiques for it: all liars say the same.
    Collude,
    /// As `collude`, but honest on the fifth of prompts it guesses to be gold.
    Camouflage,
    /// Honest answers; critiques that praise what is wrong and damn what is right.
    Critique,
}

/// One prompt in this many is guessed to be gold.
const GUESSES: u8 = 5;

impl Lie {
    /// Whether it lies about this prompt's answer.
    fn about(self, item: &Item) -> bool {
        match self {
            Self::Collude => true,
            Self::Camouflage => !item.id().0[0].is_multiple_of(GUESSES),
            Self::Critique => false,
        }
    }

    /// Its completions instead of the honest ones.
    pub(crate) fn answers(self, items: &[Item], honest: Vec<Vec<String>>) -> Vec<Vec<String>> {
        let lie = |(item, honest): (&Item, Vec<String>)| match wrong(item).filter(|_| self.about(item)) {
            Some(wrong) => vec![format!("<answer>{wrong}</answer>"); honest.len()],
            None => honest,
        };
        items.iter().zip(honest).map(lie).collect()
    }

    /// Its scores instead of the honest ones.
    pub(crate) fn critiques(
        self,
        items: &[Item],
        traces: &[Vec<(CandidateId, String)>],
        honest: Vec<Vec<Option<i16>>>,
    ) -> Vec<Vec<Option<i16>>> {
        let score = |item: &Item, text: &str| {
            let answer = item.parse(text);
            let praised = match self {
                Self::Critique => item.gold().is_some_and(|gold| answer.is_some_and(|a| !gold.matches(&a))),
                Self::Collude | Self::Camouflage => answer.map(|a| a.to_string()) == wrong(item),
            };
            Some(if praised { 0 } else { judge::CRITIQUE_MIN })
        };
        let mut scores = honest;
        for ((item, traces), scores) in items.iter().zip(traces).zip(&mut scores) {
            if self == Self::Critique || self.about(item) {
                *scores = traces.iter().map(|(_, text)| score(item, text)).collect();
            }
        }
        scores
    }
}

/// Truth + 1.
fn wrong(item: &Item) -> Option<String> {
    let truth: i64 = item.gold()?.answer().as_str().parse().ok()?;
    Some((truth + 1).to_string())
}
