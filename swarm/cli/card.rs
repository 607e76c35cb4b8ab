//! Model cards: what a model is, how it was made, what it can do, and what it cannot.

use std::collections::BTreeSet;
use std::path::Path;

use policy::export::Format;
use policy::{HubId, Policy};
use tasks::Catalogue;

use crate::evaluation::Evaluation;
use crate::model;
use crate::pretrain::{Figures, PretrainConfig};
use crate::record::RunInfo;

/// A share as two or three digits: `.28`, `1.0`.
pub(crate) fn share(value: f64) -> String {
    let text = format!("{value:.2}");
    match text.strip_prefix("0.") {
        Some(digits) => format!(".{digits}"),
        None => text,
    }
}

/// A table of evaluations: a head, then one row each; families as columns and the mean last.
pub(crate) fn rows(evaluations: &[(&str, &Evaluation)]) -> Vec<Vec<String>> {
    let families: BTreeSet<&str> =
        evaluations.iter().flat_map(|(_, e)| e.per_family.keys().map(String::as_str)).collect();
    let mut head = vec![String::new()];
    head.extend(families.iter().map(|family| (*family).to_owned()));
    head.push("mean".into());
    let row = |(name, evaluation): &(&str, &Evaluation)| {
        let mut row = vec![(*name).to_owned()];
        row.extend(families.iter().map(|f| evaluation.per_family.get(*f).map_or("–".into(), |v| share(*v))));
        row.push(share(evaluation.mean));
        row
    };
    std::iter::once(head).chain(evaluations.iter().map(row)).collect()
}

/// A table in Markdown, the first row being the head.
fn markdown(rows: &[Vec<String>]) -> String {
    let line = |row: &Vec<String>| format!("| {} |\n", row.join(" | "));
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        text.push_str(&line(row));
        if index == 0 {
            text.push_str(&format!("|---|{}\n", "---:|".repeat(row.len().saturating_sub(1))));
        }
    }
    text
}

const HEADER: &str = "---\nlicense: apache-2.0\nlibrary_name: transformers\npipeline_tag: text-generation\n";

/// The card of a base made by `murmur pretrain`; `seconds` are wall and processor seconds of the training.
pub(crate) fn base(
    config: &PretrainConfig,
    command: &str,
    seconds: (f64, f64),
    policy: &Policy,
    figures: &Figures,
) -> String {
    let toml = toml::to_string(config).unwrap_or_default();
    format!(
        "{HEADER}tags: [murmur]\n---\n\n# {name}\n\n\
A base model of Murmur: {parameters} parameters, one token per printable character, six families of small problems.\n\n\
It is *hasty* on purpose. It knows how to reason (`<think>…</think><answer>…</answer>`), and is right \
{forced} of the time when made to. By habit it blurts an answer without reasoning, and is right {greedy} of the \
time. The last phase of its training makes the habit: most lessons there are direct answers, and half of those are \
off by −11 to +15. A swarm's vote finds the right answers among the wrong ones, which disagree, and learning from the \
vote brings the reasoning back. That is what the demonstration shows; it is not what a model of use would be made \
for.\n\n\
## Figures\n\n\
Validation split ({items} items, never trained on), weights as stored:\n\n{table}\n\
## Made by\n\n```\n{command}\n```\n\n\
Seed {seed}; {wall:.0} s of wall time, {cpu:.0} CPU seconds; hash of the weights `{hash}`. The command \
makes these weights to the bit, whatever the processor and the number of threads.\n\n\
```toml\n{toml}```\n",
        name = config.name,
        parameters = policy.config().parameters(),
        forced = share(figures.forced_trace.mean),
        greedy = share(figures.greedy.mean),
        items = figures.greedy.items,
        table = markdown(&figures.rows()),
        seed = config.seed,
        wall = seconds.0,
        cpu = seconds.1,
        hash = model::hex(&policy.hash()),
    )
}

/// What the card of a model exported from a run says.
pub(crate) struct Exported<'a> {
    /// The run.
    pub(crate) run: &'a RunInfo,
    /// Where the run is, as the user gave it.
    pub(crate) path: &'a Path,
    /// Rounds done.
    pub(crate) rounds: u32,
    /// Whose model.
    pub(crate) peer: &'a str,
    /// Model it began with.
    pub(crate) base: &'a str,
    /// What it was trained on.
    pub(crate) catalogue: &'a Catalogue,
    /// What is written.
    pub(crate) format: Format,
    /// Greedy accuracy on the test split of what it began as, if that is still here.
    pub(crate) before: Option<&'a Evaluation>,
    /// Greedy accuracy on the test split.
    pub(crate) after: &'a Evaluation,
    /// Hash of the policy, adapters included, in hexadecimal.
    pub(crate) hash: &'a str,
}

impl Exported<'_> {
    /// The text.
    pub(crate) fn text(&self) -> String {
        let table = match self.before {
            Some(before) => rows(&[("before", before), ("after", self.after)]),
            None => rows(&[("after", self.after)]),
        };
        let run = self.run;
        format!(
            "{header}\n# {peer} of swarm {swarm}\n\n\
Trained from {base} by a vote: after {rounds} rounds in which {peers} peers answered the same prompts, voted on each \
other's answers and learnt from what they agreed on{labels}.\n\n{form}\n\n\
## Greedy accuracy\n\nOn the test split ({items} items, not trained on), computed in f32:\n\n{table}\n\
## Task packs\n\n{packs}\n\
## Made by\n\n```\n{command}\n{export}\n```\n\n\
Swarm `{swarm}`, arm `{arm}`, seed {seed}, murmur {version}, started {started}; hash of the weights `{hash}`.\n",
            header = self.header(),
            peer = self.peer,
            swarm = run.swarm,
            base = self.base,
            rounds = self.rounds,
            peers = run.peers.len(),
            labels = if run.arm == "swarm" { ", without reference answers in the reward" } else { "" },
            form = self.form(),
            items = self.after.items,
            table = markdown(&table),
            packs = self.packs(),
            command = run.command,
            export = self.command(),
            arm = run.arm,
            seed = run.seed,
            version = run.version,
            started = run.started,
            hash = self.hash,
        )
    }

    /// The hub's fields. The licence of a downloaded base is not known here, so none is claimed for it.
    fn header(&self) -> String {
        let mut lines = vec!["---".to_owned()];
        if policy::bases().contains(&self.base) {
            lines.push("license: apache-2.0".into());
        } else if let Some(id) = HubId::parse(self.base) {
            let relation = match self.format {
                Format::HuggingFace(_) => "finetune",
                Format::Peft => "adapter",
                Format::Gguf(_) => "quantized",
            };
            lines.push(format!("base_model: {}\nbase_model_relation: {relation}", id.repo()));
        }
        match self.format {
            Format::HuggingFace(_) => lines.push("library_name: transformers".into()),
            Format::Peft => lines.push("library_name: peft".into()),
            Format::Gguf(_) => {}
        }
        lines.push(
            "pipeline_tag: text-generation\ntags: [murmur, decentralized-training, grpo]\n---\n".into(),
        );
        lines.join("\n")
    }

    /// What the files are, and how they are used.
    fn form(&self) -> String {
        let base = self.base;
        match self.format {
            Format::HuggingFace(precision) => format!(
                "A Hugging Face directory, weights in {}: `AutoModelForCausalLM.from_pretrained(DIRECTORY)`.",
                precision.name()
            ),
            Format::Peft => format!(
                "A LoRA adapter: `PeftModel.from_pretrained(BASE, DIRECTORY)`, where BASE is {base} as transformers loads it."
            ),
            Format::Gguf(quantization) => format!(
                "A GGUF file, matrices in {}: `llama-cli -m {}`.",
                quantization.name(),
                quantization.file_name()
            ),
        }
    }

    fn packs(&self) -> String {
        let mut text = String::new();
        for (pack, weight) in self.catalogue.packs() {
            text.push_str(&format!("* {}, weight {weight}: `{}`\n", pack.name(), pack.id()));
        }
        text
    }

    fn command(&self) -> String {
        let how = match self.format {
            Format::HuggingFace(precision) => format!("hf --dtype {}", precision.name()),
            Format::Peft => "peft".into(),
            Format::Gguf(quantization) => format!("gguf --quantization {}", quantization.name()),
        };
        format!("murmur export {} --peer {} --format {how}", self.path.display(), self.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_short() {
        for (value, expected) in [(0.284, ".28"), (1.0, "1.00"), (0.0, ".00"), (0.999, "1.00")] {
            assert_eq!(share(value), expected);
        }
    }

    #[test]
    fn tables_have_a_column_a_family() {
        let one = Evaluation { per_family: [("sum".to_owned(), 0.5)].into(), mean: 0.5, items: 4 };
        let rows = rows(&[("a", &one), ("b", &Evaluation::default())]);
        assert_eq!(
            markdown(&rows),
            "|  | sum | mean |\n|---|---:|---:|\n| a | .50 | .50 |\n| b | – | .00 |\n"
        );
    }
}
