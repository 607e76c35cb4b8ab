//! Judging another's answer in words: what a chat model is asked, and what its reply says.
//!
//! The answer comes from a stranger. It is quoted line by line, [guarded](crate::guard) so that no spelling in it
//! becomes a control token, and shortened in the middle where the prompt would grow too long: its beginning shows
//! the reasoning, its end the result. Question and instruction are never cut. Nothing that the answer says about
//! itself counts; a verdict is read from the critic's reply alone, and every reply has one.

use crate::chat::{ChatTemplate, Message};
use crate::error::{PolicyError, Result};
use crate::policy::Policy;
use crate::rollout::Rollout;
use crate::tokenizer::guard;

/// Bytes of a critique's reason; what is longer is cut and ends in "…".
pub const REASON_BYTES_MAX: usize = 256;

/// Short, because a small model reads it anew for every answer.
const INSTRUCTION: &str =
    "Is this answer right? Give a short reason, then end with \"Verdict: right\" or \"Verdict: wrong\".";

/// What a critic says of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is right.
    Right,
    /// It is wrong.
    Wrong,
    /// The reply does not say, or says both.
    Unclear,
}

/// A reply, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Critique {
    /// What it says.
    pub verdict: Verdict,
    /// Why, in one line without control characters, at most [`REASON_BYTES_MAX`] bytes; may be empty.
    pub reason: String,
}

impl Critique {
    /// Reads a reply. Total: any text is a critique.
    ///
    /// The verdict is the last line that has the word "verdict", if right (correct) or wrong (incorrect) follows
    /// it, but not both and no "not": a model that repeats its instruction has said nothing. The reason is what
    /// stands before that line, without what a reasoning model thought before it began to speak.
    ///
    /// ```
    /// use policy::{Critique, Verdict};
    /// let critique = Critique::parse("<think>7 or 8?</think>3 + 4\nis 7.\n**Verdict:** right");
    /// assert_eq!((critique.verdict, critique.reason.as_str()), (Verdict::Right, "3 + 4 is 7."));
    /// assert_eq!(Critique::parse("It is right.").verdict, Verdict::Unclear);
    /// ```
    pub fn parse(reply: &str) -> Self {
        let said = reply.rsplit("</think>").next().unwrap_or_default();
        // A thought that never ended was not spoken either.
        let spoken = said.split("<think>").next().unwrap_or_default();
        let mut verdict = Verdict::Unclear;
        let (mut before, mut start) = (spoken, 0);
        for line in spoken.split_inclusive('\n') {
            if let Some(said) = verdict_of(line) {
                (verdict, before) = (said, &spoken[..start]);
            }
            start += line.len();
        }
        Self { verdict, reason: one_line(before) }
    }
}

/// What a line says after the word "verdict"; `None` for a line without it.
fn verdict_of(line: &str) -> Option<Verdict> {
    let words = line.split(|c: char| !c.is_alphabetic()).map(str::to_lowercase);
    let mut said = words.filter(|word| !word.is_empty()).skip_while(|word| word != "verdict");
    said.next()?;
    let (mut right, mut wrong) = (false, false);
    for word in said {
        match word.as_str() {
            "right" | "correct" => right = true,
            "wrong" | "incorrect" => wrong = true,
            "not" | "unclear" => return Some(Verdict::Unclear),
            _ => {}
        }
    }
    Some(match (right, wrong) {
        (true, false) => Verdict::Right,
        (false, true) => Verdict::Wrong,
        _ => Verdict::Unclear,
    })
}

/// Words with one space between them, cut to what a reason may have.
fn one_line(text: &str) -> String {
    const CUT: &str = "…";
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > REASON_BYTES_MAX {
            line.truncate(line.floor_char_boundary(REASON_BYTES_MAX - CUT.len()));
            line.push_str(CUT);
            break;
        }
    }
    line
}

impl Policy {
    /// The ids of a prompt that asks this model to judge an answer, at most `budget` of them. Where the answer
    /// does not fit, its middle is replaced by a note of how many characters are missing.
    ///
    /// Renders the template once, or about log₂ of the answer's characters times where it has to be shortened.
    ///
    /// # Errors
    /// [`PolicyError::Input`] when question and instruction alone need more than `budget`, or when the template
    /// refuses the conversation.
    pub fn critique_prompt(
        &self,
        template: &ChatTemplate,
        question: &str,
        answer: &str,
        budget: usize,
    ) -> Result<Vec<u32>> {
        let ask = |answer: &str| {
            let content = format!(
                "Question:\n{}\n\nAnswer:\n{}\n\n{INSTRUCTION}",
                guard(question),
                guard(&quoted(answer))
            );
            self.encode_chat(template, &[Message::new("user", content)], true)
        };
        let whole = ask(answer)?;
        if whole.len() <= budget {
            return Ok(whole);
        }
        let (mut shortest, mut fitting) = (whole.len(), None);
        let (mut low, mut high) = (0, answer.chars().count());
        while low < high {
            let kept = low + (high - low) / 2;
            let ids = ask(&shortened(answer, kept))?;
            shortest = shortest.min(ids.len());
            if ids.len() <= budget {
                (fitting, low) = (Some(ids), kept + 1);
            } else {
                high = kept;
            }
        }
        fitting.ok_or_else(|| {
            PolicyError::input(
                format!("a critique prompt of {shortest} tokens without the answer, where {budget} fit"),
                "use shorter questions, or a model that reads more",
            )
        })
    }

    /// What a sampled reply says.
    pub fn critique(&self, reply: &Rollout) -> Critique {
        let ends = &self.config().eos_token_ids;
        let spoken = match reply.completion.split_last() {
            Some((last, rest)) if ends.contains(last) => rest,
            _ => &reply.completion,
        };
        Critique::parse(&self.decode(spoken))
    }
}

/// Every line behind a mark, so that no line of a stranger looks like one of the prompt.
fn quoted(text: &str) -> String {
    text.lines().map(|line| format!("> {line}")).collect::<Vec<_>>().join("\n")
}

/// The text with only `kept` of its characters, half at each end.
fn shortened(text: &str, kept: usize) -> String {
    let count = text.chars().count();
    let (head, tail) = (kept / 2, kept - kept / 2);
    let at = |chars: usize| text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at);
    let missing = count.saturating_sub(kept);
    format!(
        "{} [... {missing} characters left out ...] {}",
        &text[..at(head)],
        &text[at(count - tail.min(count))..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_found_wherever_a_model_puts_them_and_nowhere_else() {
        use Verdict::{Right, Unclear, Wrong};
        for (reply, verdict, reason) in [
            ("3 + 4 is 7.\nVerdict: right", Right, "3 + 4 is 7."),
            ("3 + 4 is 7.\nVerdict: wrong\n", Wrong, "3 + 4 is 7."),
            ("Carry lost.\n\n**Verdict:** *Incorrect*.", Wrong, "Carry lost."),
            ("VERDICT - CORRECT", Right, ""),
            ("Verdict: the answer is right", Right, ""),
            ("a\r\n\tb \u{7} c\u{1b}[2J\nverdict:right", Right, "a b c [2J"),
            // The last word counts.
            ("Verdict: right\nNo, wait.\nVerdict: wrong", Wrong, "Verdict: right No, wait."),
            ("Verdict: right\nVerdict: unclear", Unclear, "Verdict: right"),
            // Nothing said, or both, or denied.
            ("It is right.", Unclear, "It is right."),
            ("Right? Verdict", Unclear, ""),
            ("End with \"Verdict: right\" or \"Verdict: wrong\".", Unclear, ""),
            ("Verdict: not right", Unclear, ""),
            ("Verdict: rightly", Unclear, ""),
            ("verdicts are right", Unclear, "verdicts are right"),
            ("", Unclear, ""),
            // Thoughts are not spoken.
            ("<think>Verdict: wrong</think>\nYes.\nVerdict: right", Right, "Yes."),
            ("<think>Verdict: wrong</think>\nYes.", Unclear, "Yes."),
            ("<think>Yes.\nVerdict: right", Unclear, ""),
        ] {
            let expected = Critique { verdict, reason: reason.into() };
            assert_eq!(Critique::parse(reply), expected, "{reply:?}");
        }
    }

    /// SplitMix64 with a fixed seed.
    fn dice(state: &mut u64, n: usize) -> usize {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    #[test]
    fn any_text_is_a_critique_with_a_bounded_reason() {
        const PARTS: [&str; 20] = [
            "Verdict",
            "verdict:",
            " right",
            " wrong",
            "\n",
            "\r\n",
            "</think>",
            "<think>",
            "not",
            "é",
            "日本",
            "\u{0}",
            "\u{1b}[31m",
            "🦀",
            "…",
            "\u{85}",
            "\u{2028}",
            "\u{fdd0}",
            " ",
            "x",
        ];
        let mut seed = 5;
        for _ in 0..50_000 {
            let mut text = String::new();
            for _ in 0..dice(&mut seed, 40) {
                let part = PARTS[dice(&mut seed, PARTS.len())];
                let times = if dice(&mut seed, 10) == 0 { 1 + dice(&mut seed, 200) } else { 1 };
                text.push_str(&part.repeat(times));
            }
            let bytes: Vec<u8> = (0..dice(&mut seed, 30)).map(|_| dice(&mut seed, 256) as u8).collect();
            text.insert_str(0, &String::from_utf8_lossy(&bytes));
            let critique = Critique::parse(&text);
            let reason = &critique.reason;
            assert!(reason.len() <= REASON_BYTES_MAX && !reason.contains(char::is_control), "{text:?}");
            assert_eq!(reason.trim(), reason, "{text:?}");
            assert!(!reason.contains("  "), "{text:?}");
            // What a critic said before changes nothing, and neither do thoughts.
            for (word, verdict) in [("right", Verdict::Right), ("wrong", Verdict::Wrong)] {
                let said = format!("{text}</think>{}\nVerdict: {word}", text.replace("<think>", ""));
                assert_eq!(Critique::parse(&said).verdict, verdict, "{said:?}");
            }
        }
    }

    #[test]
    fn the_middle_is_left_out_and_said_so() {
        assert_eq!(shortened("0123456789", 4), "01 [... 6 characters left out ...] 89");
        assert_eq!(shortened("日本語のテスト", 3), "日 [... 4 characters left out ...] スト");
        assert_eq!(shortened("ab", 0), " [... 2 characters left out ...] ");
        assert_eq!(quoted("a\n\nAnswer:\nb\n"), "> a\n> \n> Answer:\n> b");
    }
}
