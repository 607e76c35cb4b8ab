//! A chat model's text critiques: what it is asked, what it writes, and what gold makes of that a round later.
//!
//! The first reply to each candidate is what the peer says in the swarm. Where critiques are trained on there are
//! more replies to the same prompt: a group of its own with its own baseline, never mixed with answers. Whether a
//! candidate was right is known when gold is drawn, one round later, so the step on critiques comes one step after
//! they were sampled.

use std::collections::BTreeSet;

use judge::{CandidateId, GoldReport, PeerKey};
use policy::{ChatTemplate, Group, Policy, Sampling};
use swarm::limits::REASON_BYTES_MAX;
use swarm::manifest::{self, RoundRules};
use swarm::message::TextCritique;
use tasks::Item;

use crate::{model, printer};

/// Tokens of a reply: a reason of the longest kind and the verdict.
const NEW_TOKENS_MAX: usize = 96;
/// Tokens of a prompt; longer answers are shortened, also where the model could read more.
const PROMPT_TOKENS_MAX: usize = 1024;
/// Prompts that are sampled at once, which bounds the memory of their caches.
const PROMPTS_AT_ONCE: usize = 4;

const _: () = assert!(policy::REASON_BYTES_MAX <= REASON_BYTES_MAX);

/// How a peer's model writes critiques.
pub(crate) struct Critic {
    template: ChatTemplate,
    /// Replies to each candidate; the first one is said.
    replies: usize,
    temperature: f32,
}

/// A candidate that this peer is to judge.
pub(crate) struct Ask {
    prompt: usize,
    candidate: CandidateId,
    question: String,
    answer: String,
    /// Whether it is the reference answer, where there is one; the model does not learn it before gold is drawn.
    right: Option<bool>,
}

/// What a critic wrote in one round.
#[derive(Default)]
pub(crate) struct Critiques {
    pub(crate) written: Vec<Written>,
    /// How many candidates it could not be asked about, and why the first of them.
    pub(crate) passed_over: Option<(usize, String)>,
}

/// The replies about one candidate.
pub(crate) struct Written {
    ask: Ask,
    group: Group,
    said: Vec<policy::Critique>,
}

impl Critic {
    /// The critic of a peer that starts from `base`; `None` where the swarm has no text critiques, or the model no
    /// chat template.
    ///
    /// # Errors
    /// A chat template that cannot be read.
    pub(crate) fn of(base: &str, rules: &RoundRules) -> anyhow::Result<Option<Self>> {
        let replies = match rules.critiques {
            manifest::Critiques::Off => return Ok(None),
            manifest::Critiques::Reputation => 1,
            manifest::Critiques::Train => rules.completions.into(),
        };
        let Some(template) = model::chat_template(base)? else {
            printer::note(&format!("{base} has no chat template: it scores answers but writes no critiques"));
            return Ok(None);
        };
        Ok(Some(Self { template, replies, temperature: f32::from(rules.temperature_permille) / 1000.0 }))
    }

    /// Writes critiques. A candidate whose question leaves it no room is passed over.
    ///
    /// # Errors
    /// The policy fails.
    pub(crate) fn write(
        &self,
        policy: &Policy,
        asks: Vec<Ask>,
        seed: &[u8; 32],
    ) -> policy::Result<Critiques> {
        let budget = policy.config().context().saturating_sub(NEW_TOKENS_MAX).min(PROMPT_TOKENS_MAX);
        let sampling =
            Sampling { temperature: self.temperature, new_tokens_max: NEW_TOKENS_MAX, ..Sampling::default() };
        let mut prompts = Vec::with_capacity(asks.len());
        let mut critiques = Critiques::default();
        for ask in asks {
            match policy.critique_prompt(&self.template, &ask.question, &ask.answer, budget) {
                Ok(ids) => prompts.push((ask, ids)),
                Err(error) => {
                    critiques.passed_over.get_or_insert_with(|| (0, error.to_string())).0 += 1;
                }
            }
        }
        let mut rest = prompts.into_iter();
        for part in 0_u64.. {
            let (asks, ids): (Vec<Ask>, Vec<Vec<u32>>) = rest.by_ref().take(PROMPTS_AT_ONCE).unzip();
            if asks.is_empty() {
                break;
            }
            let seed = *blake3::keyed_hash(seed, &part.to_le_bytes()).as_bytes();
            let groups = policy.rollout_ids(&ids, self.replies, &sampling, &seed)?;
            critiques.written.extend(asks.into_iter().zip(groups).map(|(ask, group)| {
                let said = group.rollouts().iter().map(|reply| policy.critique(reply)).collect();
                Written { ask, group, said }
            }));
        }
        Ok(critiques)
    }
}

/// The candidates to judge, with the completions that stand for them, in candidate order.
pub(crate) fn asks(
    items: &[Item],
    traces: &[Vec<(CandidateId, String)>],
    assigned: &[BTreeSet<CandidateId>],
) -> Vec<Ask> {
    let mut asks = Vec::new();
    for (prompt, ((item, traces), assigned)) in items.iter().zip(traces).zip(assigned).enumerate() {
        for (candidate, answer) in traces.iter().filter(|(candidate, _)| assigned.contains(candidate)) {
            let gold = item.gold().map(|gold| CandidateId::of(prompt as u16, gold.answer().as_str()));
            asks.push(Ask {
                prompt,
                candidate: *candidate,
                question: item.prompt().to_owned(),
                answer: answer.clone(),
                right: gold.map(|gold| gold == *candidate),
            });
        }
    }
    asks
}

/// What is said in the swarm, one list for each of `prompts`.
pub(crate) fn texts(written: &[Written], prompts: usize) -> Vec<Vec<TextCritique>> {
    let mut texts = vec![Vec::new(); prompts];
    for Written { ask, said, .. } in written {
        if let (Some(of_prompt), Some(first)) = (texts.get_mut(ask.prompt), said.first()) {
            let (verdict, reason) = (verdict(first), first.reason.clone());
            of_prompt.push(TextCritique { candidate: ask.candidate, verdict, reason });
        }
    }
    texts
}

/// The groups about candidates whose prompts were drawn as gold, each reply paid for its verdict as the swarm pays
/// for the one that was said. Nothing for a peer whose critiques were not included.
pub(crate) fn lessons(written: Vec<Written>, me: &PeerKey, gold: &GoldReport) -> Vec<(Group, Vec<f32>)> {
    let Some(draw) = gold.critics.get(me) else { return Vec::new() };
    let drawn = |prompt: usize| u32::try_from(prompt).is_ok_and(|prompt| gold.drawn.contains(&prompt));
    let paid = written.into_iter().filter(|written| drawn(written.ask.prompt)).filter_map(|written| {
        let right = written.ask.right?;
        let reward = |said: &policy::Critique| {
            let (numerator, denominator) = draw.reward(verdict(said), right);
            numerator as f32 / denominator as f32
        };
        Some((written.group, written.said.iter().map(reward).collect()))
    });
    paid.collect()
}

fn verdict(critique: &policy::Critique) -> judge::Verdict {
    match critique.verdict {
        policy::Verdict::Right => judge::Verdict::Right,
        policy::Verdict::Wrong => judge::Verdict::Wrong,
        policy::Verdict::Unclear => judge::Verdict::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use judge::GoldVerdicts;
    use policy::Rollout;

    use super::*;

    fn written(prompt: usize, right: Option<bool>, replies: &[&str]) -> Written {
        let reply = |text: &&str| Rollout {
            prompt: vec![1, prompt as u32],
            completion: vec![2],
            logprobs: vec![0.0],
            text: (*text).to_owned(),
            finished: true,
            version: 0,
        };
        let candidate = CandidateId([prompt as u8; 8]);
        Written {
            ask: Ask { prompt, candidate, question: String::new(), answer: String::new(), right },
            group: Group::new(replies.iter().map(reply).collect()).unwrap(),
            said: replies.iter().map(|text| policy::Critique::parse(text)).collect(),
        }
    }

    const RIGHT: &str = "Yes.\nVerdict: right";
    const WRONG: &str = "No.\nVerdict: wrong";

    #[test]
    fn replies_are_paid_by_gold_in_groups_of_their_own() {
        let me = PeerKey([1; 32]);
        let draw = GoldVerdicts { right: 1, right_sum: 1, wrong: 2, wrong_sum: -2 };
        let gold =
            GoldReport { drawn: vec![0, 2], critics: BTreeMap::from([(me, draw)]), ..GoldReport::default() };
        let all = || {
            vec![
                written(0, Some(true), &[RIGHT, WRONG, "?"]),
                written(1, Some(true), &[RIGHT, WRONG]),
                written(2, Some(false), &[RIGHT, WRONG, WRONG]),
                written(2, None, &[RIGHT, WRONG]),
            ]
        };
        let lessons = lessons(all(), &me, &gold);
        let rewards: Vec<&[f32]> = lessons.iter().map(|(_, rewards)| &rewards[..]).collect();
        // The rare kind pays in full, the common one half as much; what was not drawn, or has no gold, teaches nothing.
        assert_eq!(rewards, [&[1.0, -1.0, 0.0][..], &[-0.5, 0.5, 0.5]]);
        assert_eq!(lessons[1].0.rollouts()[0].prompt, [1, 2]);
        assert_eq!(super::lessons(all(), &PeerKey([2; 32]), &gold), [], "not included");
        // The first reply is the one that is said.
        let said = texts(&all(), 3);
        assert_eq!(said.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 2]);
        assert_eq!((said[0][0].verdict, said[0][0].reason.as_str()), (judge::Verdict::Right, "Yes."));
    }
}
