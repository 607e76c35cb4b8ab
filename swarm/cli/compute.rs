//! How a peer's policy computes, samples and learns: the sections `[policy]`, `[sampling]`, `[lora]` and
//! `[learning]` of a join config, checked and put together with what the swarm and the model say.

use policy::memory::{self, Estimate, Round, Train, Workload};
use policy::tensor::Device;
use policy::{
    ChatTemplate, GenerationConfig, LoraConfig, Message, Policy, Sampling, SamplingWeights, UpdateConfig,
};
use serde::{Deserialize, Serialize};
use swarm::manifest::RoundRules;
use tasks::{Catalogue, Item, Split};

use crate::config::{self, ConfigError};
use crate::join::JoinConfig;
use crate::model::{Model, SYSTEM_PROMPT};

/// Items of each family by which the longest prompt is estimated.
const PROMPTS_LOOKED_AT: usize = 20;
/// Bytes of text a token has at least, on average over a prompt: digits and marks have one, words four and more.
const BYTES_PER_TOKEN: usize = 2;
/// Seed of an adapter's starting values; with B zero they change no result, only the way there.
const ADAPTER_SEED: u64 = 0;

/// `[policy]`: how the policy computes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PolicyConfig {
    /// Threads; 0 for one a core. Results do not depend on it.
    pub(crate) threads: usize,
    /// `cpu`, `cuda`, `cuda:1` or `metal`.
    #[schemars(with = "String")]
    pub(crate) device: Device,
    /// Weights that sampling reads, `f32` or `bf16`; training and scoring always use f32.
    pub(crate) sampling_weights: SamplingWeights,
    /// Whether a model with a chat template is asked through it.
    pub(crate) chat: bool,
    /// What a model that chats is told before a task; empty for nothing.
    pub(crate) system_prompt: String,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            threads: 1,
            device: Device::Cpu,
            sampling_weights: SamplingWeights::F32,
            chat: true,
            system_prompt: SYSTEM_PROMPT.into(),
        }
    }
}

/// `[sampling]`: how answers are drawn. What is not given is as a chat model's `generation_config.json` says, or
/// else as `[swarm.round]` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SamplingConfig {
    /// Divides the logits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f32>,
    /// Only so many likeliest tokens are drawn from; 0 for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_k: Option<usize>,
    /// Only the likeliest tokens that together reach this probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_p: Option<f32>,
    /// Only tokens at least this fraction as likely as the likeliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) min_p: Option<f32>,
}

impl SamplingConfig {
    /// The sampling of a round.
    ///
    /// # Errors
    /// A sentence naming the first setting out of its range.
    pub(crate) fn of(
        &self,
        rules: &RoundRules,
        generation: Option<&GenerationConfig>,
    ) -> Result<Sampling, String> {
        // What authors say about sampling means nothing where they say not to sample.
        let said = generation.filter(|said| said.do_sample != Some(false)).cloned().unwrap_or_default();
        let round = f32::from(rules.temperature_permille) / 1000.0;
        let whole = Sampling::default();
        let sampling = Sampling {
            temperature: self.temperature.or(said.temperature).unwrap_or(round),
            new_tokens_max: rules.new_tokens_max.into(),
            top_k: self.top_k.or(said.top_k).unwrap_or(whole.top_k),
            top_p: self.top_p.or(said.top_p).unwrap_or(whole.top_p),
            min_p: self.min_p.or(said.min_p).unwrap_or(whole.min_p),
        };
        if sampling.temperature == 0.0 {
            return Err("temperature is 0: equal answers teach nothing, must be above 0".into());
        }
        sampling.check().map(|()| sampling)
    }
}

/// Everything about computing, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Compute {
    pub(crate) policy: PolicyConfig,
    pub(crate) lora: Option<LoraConfig>,
    pub(crate) learning: UpdateConfig,
}

impl Compute {
    /// Checks the sections for themselves, and fills in what follows from the round.
    ///
    /// # Errors
    /// [`ConfigError`] naming section and key.
    pub(crate) fn new(file: &str, config: &JoinConfig) -> Result<Self, ConfigError> {
        let JoinConfig { policy, lora, learning, .. } = config;
        let wrong = |section: &str, why: String| {
            ConfigError::new(
                file,
                format!("[{section}] {why}"),
                "see the range, or leave the key out for its default",
            )
        };
        learning.check().map_err(|why| wrong("learning", why))?;
        lora.as_ref().map_or(Ok(()), LoraConfig::check).map_err(|why| wrong("lora", why))?;
        if policy.threads > policy::THREADS_MAX {
            let why = format!("threads is {}, must be 0 to {}", policy.threads, policy::THREADS_MAX);
            return Err(wrong("policy", why));
        }
        check_device(file, policy.device)?;
        let mut learning = learning.clone();
        learning.max_completion_length.get_or_insert(config.swarm.round.new_tokens_max.into());
        Ok(Self { policy: policy.clone(), lora: lora.clone(), learning })
    }

    /// The template of a model that is asked through it.
    ///
    /// # Errors
    /// The template is damaged.
    pub(crate) fn template(&self, model: &Model) -> policy::Result<Option<ChatTemplate>> {
        if self.policy.chat { model.template() } else { Ok(None) }
    }

    /// Whether training needs the base as a reference of its own: an adapter has it beneath.
    pub(crate) fn needs_reference(&self) -> bool {
        self.learning.beta > 0.0 && self.lora.is_none()
    }

    /// A policy that was read, as it computes.
    ///
    /// # Errors
    /// No such threads, or a template that refuses a question.
    pub(crate) fn prepare(&self, policy: Policy, template: Option<ChatTemplate>) -> policy::Result<Policy> {
        let policy =
            policy.with_threads(self.policy.threads)?.with_sampling_weights(self.policy.sampling_weights);
        let system = Some(self.policy.system_prompt.as_str()).filter(|text| !text.is_empty());
        match template {
            Some(template) => policy.with_chat(template, system),
            None => Ok(policy),
        }
    }

    /// The policy with a fresh adapter, where one is trained.
    ///
    /// # Errors
    /// A setting out of its range.
    pub(crate) fn adapt(&self, policy: Policy) -> policy::Result<Policy> {
        match &self.lora {
            Some(lora) => policy.with_adapter(lora.clone(), ADAPTER_SEED),
            None => Ok(policy),
        }
    }

    /// Predicts the memory of a run and says whether there is as much.
    ///
    /// # Errors
    /// The model's config cannot be used, or its settings do not fit into memory: then with those that would.
    pub(crate) fn memory(
        &self,
        model: &Model,
        rules: &RoundRules,
        catalogue: &Catalogue,
    ) -> policy::Result<Estimate> {
        let prompt_tokens = self.prompt_tokens(model, catalogue)?;
        memory::check(&model.config()?, &self.workload(rules, prompt_tokens))
    }

    /// Tokens of the longest prompt, estimated without reading the tokenizer; rather too many.
    fn prompt_tokens(&self, model: &Model, catalogue: &Catalogue) -> policy::Result<usize> {
        let items = catalogue.held_out(Split::Train, PROMPTS_LOOKED_AT);
        let longest = items.iter().map(Item::prompt).max_by_key(|prompt| prompt.len()).unwrap_or_default();
        let Some(template) = self.template(model)? else { return Ok(longest.len() + 1) };
        let turns = [Message::new("system", &*self.policy.system_prompt), Message::new("user", longest)];
        let silent = usize::from(self.policy.system_prompt.is_empty());
        Ok(template.render(&turns[silent..], true)?.len() / BYTES_PER_TOKEN)
    }

    fn workload(&self, rules: &RoundRules, prompt_tokens: usize) -> Workload {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Workload {
            round: Some(Round {
                prompts: rules.prompts.into(),
                completions: rules.completions.into(),
                prompt_tokens,
                new_tokens: rules.new_tokens_max.into(),
            }),
            bf16: self.policy.sampling_weights == SamplingWeights::Bf16,
            train: Some(Train {
                micro_batch_tokens: self.learning.micro_batch_tokens.map(|tokens| tokens as usize),
                gradient_checkpointing: self.learning.gradient_checkpointing,
                lora: self.lora.clone(),
                reference: self.learning.beta > 0.0,
            }),
            threads: if self.policy.threads == 0 { cores() } else { self.policy.threads },
        }
    }
}

/// Whether this binary computes on the device.
fn check_device(file: &str, device: Device) -> Result<(), ConfigError> {
    device.check().map_err(|error| {
        let text = error.to_string();
        let (what, hint) = config::split_hint(&text);
        ConfigError::new(file, format!("[policy] {what}"), hint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const PEER: &str = "[swarm]\nname = \"t\"\ngenesis = { peers_min = 3 }\n\
        [[swarm.packs]]\nid = \"native:six\"\nweight = 1\n\
        [swarm.round]\nnew_tokens_max = 96\ntemperature_permille = 900\n\
        [peer]\nbase = \"amber\"\nstate = \"s\"\n";

    fn join(more: &str) -> JoinConfig {
        config::parse("c.toml", &format!("{PEER}{more}")).unwrap()
    }

    #[test]
    fn sampling_is_the_peers_then_the_authors_then_the_swarms() {
        let said = r#"{"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.8}"#;
        let said = GenerationConfig::from_json(said).unwrap();
        let greedy = GenerationConfig { do_sample: Some(false), ..said.clone() };
        let sampled = |more: &str, said: Option<&GenerationConfig>| {
            let config = join(more);
            let got = config.sampling.of(&config.swarm.round, said).unwrap();
            assert_eq!(got.new_tokens_max, 96);
            (got.temperature, got.top_k, got.top_p, got.min_p)
        };
        let own = "[sampling]\ntemperature = 1.0\ntop_k = 0\nmin_p = 0.1";
        assert_eq!(sampled("", None), (0.9, 0, 1.0, 0.0));
        assert_eq!(sampled("", Some(&said)), (0.6, 20, 0.8, 0.0));
        assert_eq!(sampled("", Some(&greedy)), (0.9, 0, 1.0, 0.0));
        assert_eq!(sampled(own, Some(&said)), (1.0, 0, 0.8, 0.1));
    }

    #[test]
    fn the_longest_completion_is_the_rounds_unless_given() {
        let length = |more: &str| Compute::new("c.toml", &join(more)).unwrap().learning.max_completion_length;
        assert_eq!(length(""), Some(96));
        assert_eq!(length("[learning]\nmax_completion_length = 50"), Some(50));
    }

    #[test]
    fn an_adapter_is_its_own_reference() {
        let needs = |more: &str| Compute::new("c.toml", &join(more)).unwrap().needs_reference();
        assert!(!needs("") && needs("[learning]\nbeta = 0.1") && !needs("[lora]\n[learning]\nbeta = 0.1"));
    }
}
