//! A policy: a model, its tokenizer, and what a peer asks of it.

use std::sync::{Arc, OnceLock};

use crate::config::ModelConfig;
use crate::conversation::Conversation;
use crate::decode::{self, Choice, Made};
use crate::error::{PolicyError, Result};
use crate::lora::{Adapter, LoraConfig};
use crate::model::{Model, Rotary};
use crate::rollout::{Group, Rollout, Sampling};
use crate::sample::stream_key;
use crate::team::Team;
use crate::tokenizer::{Codec, char_level_json};
use crate::weights::{self, Layout, Module, Parameter};

/// Values that are rounded to bf16 at a time.
const ROUND_VALUES: usize = 1 << 16;

/// How the weights are held for sampling.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SamplingWeights {
    /// As they are trained.
    #[default]
    F32,
    /// Matrices rounded to bf16: half the memory to read for every token, slightly another policy.
    Bf16,
}

/// A model with its tokenizer. A clone is an independent policy; weights are shared until one changes.
#[derive(Clone, Debug)]
pub struct Policy {
    config: ModelConfig,
    layout: Arc<Layout>,
    rotary: Arc<Rotary>,
    codec: Arc<Codec>,
    team: Team,
    weights: Arc<Vec<f32>>,
    /// The hash of the weights; made when first needed after a change.
    hash: OnceLock<[u8; 32]>,
    /// The weights in bf16 when sampling reads them so; made when first needed after a change.
    half: Option<OnceLock<Arc<Vec<u16>>>>,
    adapter: Option<Adapter>,
    chat: Option<Conversation>,
    version: u64,
}

impl Policy {
    /// A policy with seeded starting weights and the character-level tokenizer of the embedded bases.
    ///
    /// # Errors
    /// A config that does not fit together or not to the tokenizer.
    pub fn init(config: ModelConfig, seed: u64) -> Result<Self> {
        let weights = Layout::new(&config).initial(seed);
        Self::from_parts(config, weights, char_level_json())
    }

    pub(crate) fn from_parts(config: ModelConfig, weights: Vec<f32>, tokenizer: String) -> Result<Self> {
        config.check().map_err(|why| PolicyError::input(why, "correct config.json"))?;
        let codec = Self::codec_for(&config, tokenizer)?;
        Self::assemble(config, weights, codec)
    }

    /// A policy that computes on ids only, and to the full length.
    pub(crate) fn from_ids_only(config: ModelConfig, weights: Vec<f32>) -> Result<Self> {
        Ok(Self::assemble(config, weights, Codec::none())?.without_text())
    }

    fn codec_for(config: &ModelConfig, tokenizer: String) -> Result<Codec> {
        let codec = Codec::from_json(tokenizer).map_err(|why| {
            PolicyError::input(format!("tokenizer.json: {why}"), "copy it from the model again")
        })?;
        if codec.vocab_size() > config.vocab_size {
            return Err(PolicyError::input(
                format!("the tokenizer has {} ids, the model {}", codec.vocab_size(), config.vocab_size),
                "use the tokenizer.json that belongs to this model",
            ));
        }
        Ok(codec)
    }

    fn assemble(config: ModelConfig, weights: Vec<f32>, codec: Codec) -> Result<Self> {
        let layout = Layout::new(&config);
        if layout.len() != weights.len() {
            let what = format!("{} weights where the config needs {}", weights.len(), layout.len());
            return Err(PolicyError::input(what, "use the weights that belong to this config"));
        }
        Ok(Self {
            rotary: Arc::new(Rotary::new(&config)),
            config,
            layout: Arc::new(layout),
            codec: Arc::new(codec),
            team: Team::default(),
            weights: Arc::new(weights),
            hash: OnceLock::new(),
            half: None,
            adapter: None,
            chat: None,
            version: 0,
        })
    }

    /// The same policy without tokenizer and end tokens: it samples, scores and learns from ids, every
    /// completion has its full length, and what needs text gives an error or nothing. For measurements.
    pub fn without_text(mut self) -> Self {
        self.codec = Arc::new(Codec::none());
        self.config.eos_token_ids = Vec::new();
        self
    }

    /// Computes with this many threads; 0 means one for each core. Results do not depend on it.
    ///
    /// # Errors
    /// More threads than the system gives.
    pub fn with_threads(mut self, threads: usize) -> Result<Self> {
        self.team = Team::new(threads)?;
        Ok(self)
    }

    /// Number of threads that it computes with.
    pub fn threads(&self) -> usize {
        self.team.threads()
    }

    /// Samples from weights held in this way; training and scoring always use f32.
    pub fn with_sampling_weights(mut self, weights: SamplingWeights) -> Self {
        self.half = (weights == SamplingWeights::Bf16).then(OnceLock::new);
        self
    }

    /// Puts fresh adapters on the model: they, and only they, are trained from now on.
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn with_adapter(mut self, config: LoraConfig, seed: u64) -> Result<Self> {
        self.adapter = Some(Adapter::new(&self.config, config, seed)?);
        Ok(self)
    }

    /// With these adapters, which fit the model.
    pub(crate) fn with_adapter_in_place(mut self, adapter: Adapter) -> Self {
        self.adapter = Some(adapter);
        self
    }

    /// The adapters, if it has any.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// The adapters, to be changed; counts as a new version.
    pub fn adapter_mut(&mut self) -> Option<&mut Adapter> {
        self.version += 1;
        self.adapter.as_mut()
    }

    /// The same policy with the adapters folded into the weights, W + alpha / rank · B·A.
    pub fn merged(&self) -> Self {
        let mut merged = Self { adapter: None, ..self.clone() };
        if let Some(adapter) = &self.adapter {
            let weights = merged.changing_weights();
            for (layer, block) in self.layout.blocks.iter().enumerate() {
                for (linear, module) in block.linears.iter().zip(Module::ALL) {
                    if let Some(lora) = adapter.view(layer, module) {
                        lora.fold(&mut weights[linear.weight.range()]);
                    }
                }
            }
        }
        merged
    }

    /// The policy without its adapters: what they were put on.
    pub fn without_adapter(&self) -> Self {
        Self { adapter: None, ..self.clone() }
    }

    /// Shape and constants.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// All weights, at the places that the layout tells.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Names and places of the weights.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The weights, to be changed; counts as a new version.
    pub fn weights_mut(&mut self) -> &mut [f32] {
        self.version += 1;
        self.changing_weights()
    }

    /// The weights, and nothing that was made from what they were.
    fn changing_weights(&mut self) -> &mut [f32] {
        self.hash = OnceLock::new();
        self.half = self.half.as_ref().map(|_| OnceLock::new());
        Arc::make_mut(&mut self.weights).as_mut_slice()
    }

    /// What training changes, and its parts: the adapters where there are any, else the weights.
    pub(crate) fn trainable_mut(&mut self) -> (Vec<Parameter>, &mut [f32]) {
        let parameters = self.trainable().to_vec();
        self.version += 1;
        if self.adapter.is_none() {
            return (parameters, self.changing_weights());
        }
        (parameters, self.adapter.as_mut().map(|adapter| &mut adapter.weights[..]).unwrap_or_default())
    }

    /// Values of a parameter that training changes, row-major.
    pub(crate) fn trainable_values(&self, parameter: &Parameter) -> Vec<f32> {
        match &self.adapter {
            Some(adapter) => adapter.values(parameter),
            None => self.layout.values(&self.weights, parameter),
        }
    }

    /// Parameters that training changes.
    pub(crate) fn trainable(&self) -> &[Parameter] {
        self.adapter.as_ref().map_or(self.layout.parameters(), Adapter::parameters)
    }

    /// Length of what training changes.
    pub(crate) fn trainable_len(&self) -> usize {
        self.adapter.as_ref().map_or(self.weights.len(), |adapter| adapter.weights.len())
    }

    pub(crate) fn team(&self) -> &Team {
        &self.team
    }

    /// Runs `f` where its parallel parts start without waking anybody.
    pub(crate) fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        self.team.run(f)
    }

    /// Optimiser steps taken since it was loaded.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Says how many optimiser steps were taken, where they were taken elsewhere.
    pub(crate) fn set_version(&mut self, version: u64) {
        self.version = version;
    }

    /// BLAKE3 over all weights as f32, little endian; with adapters, over that and theirs.
    pub fn hash(&self) -> [u8; 32] {
        let base = self.base_hash();
        let Some(adapter) = &self.adapter else { return base };
        let mut hasher = blake3::Hasher::new_derive_key("murmur v1 adapter");
        hasher.update(&base).update(&adapter.config().scale().to_le_bytes());
        hasher.update(&weights::hash(adapter.parameters(), &adapter.weights));
        *hasher.finalize().as_bytes()
    }

    /// The hash without adapters: of what they were put on.
    pub fn base_hash(&self) -> [u8; 32] {
        *self.hash.get_or_init(|| weights::hash(self.layout.parameters(), &self.weights))
    }

    /// Whether it is asked through a chat template.
    pub fn chats(&self) -> bool {
        self.chat.is_some()
    }

    pub(crate) fn conversation(&self) -> Option<&Conversation> {
        self.chat.as_ref()
    }

    pub(crate) fn set_conversation(&mut self, chat: Conversation) {
        self.chat = Some(chat);
    }

    pub(crate) fn codec(&self) -> &Codec {
        &self.codec
    }

    pub(crate) fn tokenizer_json(&self) -> &str {
        self.codec.json()
    }

    pub(crate) fn spelling(&self, id: u32) -> Option<String> {
        self.codec.token(id)
    }

    /// The model in f32: for training and scoring.
    pub(crate) fn model(&self) -> Model<'_> {
        Model {
            config: &self.config,
            layout: &self.layout,
            weights: &self.weights,
            half: None,
            rotary: &self.rotary,
            adapter: self.adapter.as_ref(),
            team: &self.team,
        }
    }

    /// The model without its adapter: the reference of what is trained.
    pub(crate) fn base_model(&self) -> Model<'_> {
        Model { adapter: None, ..self.model() }
    }

    /// The model as sampling reads it.
    pub(crate) fn sampling_model(&self) -> Model<'_> {
        let half = self.half.as_ref().map(|half| &half.get_or_init(|| Arc::new(self.rounded()))[..]);
        Model { half, ..self.model() }
    }

    pub(crate) fn samples_in_bf16(&self) -> bool {
        self.half.is_some()
    }

    fn rounded(&self) -> Vec<u16> {
        let mut half = vec![0; self.weights.len()];
        let items = half.chunks_mut(ROUND_VALUES).zip(self.weights.chunks(ROUND_VALUES));
        self.team.each(items.collect(), |(half, weights)| {
            half.iter_mut().zip(weights).for_each(|(half, w)| *half = half::bf16::from_f32(*w).to_bits());
        });
        half
    }

    /// Ids of a text, without the begin token.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.codec.encode(text)
    }

    /// Text of ids, markers spelled out.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.codec.decode(ids)
    }

    /// Says whether it has a tokenizer.
    pub(crate) fn check_text(&self) -> Result<()> {
        match self.codec.is_none() {
            true => Err(PolicyError::input(
                "this policy has no tokenizer",
                "load the model with its tokenizer.json",
            )),
            false => Ok(()),
        }
    }

    pub(crate) fn encode_exactly(&self, text: &str) -> Result<Vec<u32>> {
        self.check_text()?;
        self.codec.encode_exact(text).ok_or_else(|| {
            PolicyError::input(
                format!("{text:?} has characters this model does not know"),
                "use its alphabet",
            )
        })
    }

    pub(crate) fn check_prompt(&self, ids: &[u32]) -> Result<()> {
        let context = self.config.context();
        if ids.is_empty() || ids.len() >= context {
            let what = format!("a prompt of {} tokens where 1 to {} fit", ids.len(), context - 1);
            return Err(PolicyError::input(what, "shorten the prompt"));
        }
        match ids.iter().find(|id| **id as usize >= self.config.vocab_size) {
            Some(id) => {
                let what = format!("token id {id} where the vocabulary has {}", self.config.vocab_size);
                Err(PolicyError::input(what, "use the model's own tokenizer"))
            }
            None => Ok(()),
        }
    }

    /// Samples `group` completions of each prompt. `seed` decides everything: the same seed gives the
    /// same completion for (prompt position, sample position), whatever else is sampled beside it.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for a prompt outside the alphabet or longer than the model reads.
    pub fn rollout(
        &self,
        prompts: &[&str],
        group: usize,
        sampling: &Sampling,
        seed: &[u8; 32],
    ) -> Result<Vec<Group>> {
        let ids = prompts.iter().map(|prompt| self.prompt_ids(prompt)).collect::<Result<Vec<_>>>()?;
        self.rollout_ids(&ids, group, sampling, seed)
    }

    /// As [`Self::rollout`], for prompts that are ids already.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for settings out of range or ids that the model does not read.
    pub fn rollout_ids(
        &self,
        prompts: &[Vec<u32>],
        group: usize,
        sampling: &Sampling,
        seed: &[u8; 32],
    ) -> Result<Vec<Group>> {
        sampling.check_group(group)?;
        prompts.iter().try_for_each(|ids| self.check_prompt(ids))?;
        let keys: Vec<(usize, [u8; 32])> = (0..prompts.len())
            .flat_map(|prompt| (0..group).map(move |sample| (prompt, sample)))
            .map(|(prompt, sample)| (prompt, stream_key(seed, prompt, sample)))
            .collect();
        let rollouts = self.continued(prompts, &[], &keys, sampling, &self.config.eos_token_ids);
        let mut rollouts = rollouts.into_iter();
        prompts.iter().map(|_| Group::new(rollouts.by_ref().take(group).collect())).collect()
    }

    /// The first completions of one prompt, by its position among those of the seed.
    pub(crate) fn sample_again(
        &self,
        prompt: &[u32],
        position: usize,
        group: usize,
        sampling: &Sampling,
        seed: &[u8; 32],
    ) -> Vec<Rollout> {
        let keys: Vec<_> = (0..group).map(|sample| (0, stream_key(seed, position, sample))).collect();
        self.continued(&[prompt.to_vec()], &[], &keys, sampling, &self.config.eos_token_ids)
    }

    /// The likeliest completion of each prompt, token by token, after a forced beginning (may be empty).
    /// `completion` and `text` include the beginning; `logprobs` cover what was chosen after it.
    ///
    /// # Errors
    /// As [`Self::rollout`].
    pub fn complete(&self, prompts: &[&str], forced: &str, new_tokens_max: usize) -> Result<Vec<Rollout>> {
        let ids = prompts.iter().map(|prompt| self.prompt_ids(prompt)).collect::<Result<Vec<_>>>()?;
        let forced = self.encode_exactly(forced)?;
        ids.iter().try_for_each(|ids| self.check_prompt(&[ids, &forced[..]].concat()))?;
        let keys: Vec<(usize, [u8; 32])> = (0..prompts.len()).map(|prompt| (prompt, [0; 32])).collect();
        let sampling = Sampling::greedy(new_tokens_max.max(1));
        Ok(self.continued(&ids, &forced, &keys, &sampling, &self.config.eos_token_ids))
    }

    /// The likeliest `new_tokens` ids after `ids`, past any end token: for comparison with other
    /// implementations.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for ids that the model does not read.
    pub fn greedy(&self, ids: &[u32], new_tokens: usize) -> Result<Vec<u32>> {
        self.check_prompt(ids)?;
        let sampling = Sampling::greedy(new_tokens.max(1));
        let rollouts = self.continued(&[ids.to_vec()], &[], &[(0, [0; 32])], &sampling, &[]);
        Ok(rollouts.into_iter().flat_map(|rollout| rollout.completion).collect())
    }

    fn continued(
        &self,
        prompts: &[Vec<u32>],
        forced: &[u32],
        keys: &[(usize, [u8; 32])],
        sampling: &Sampling,
        ends: &[u32],
    ) -> Vec<Rollout> {
        let shortest = prompts.iter().map(Vec::len).min().unwrap_or(0) + forced.len();
        let sampling = sampling.within(&self.config, shortest);
        let begun: Vec<Vec<u32>> = prompts.iter().map(|prompt| [prompt, forced].concat()).collect();
        let model = self.sampling_model();
        let made: Vec<Made> = self.team.run(|| {
            let read = decode::read(model, &begun);
            decode::decode(model, &read, keys, Choice { sampling: &sampling, ends })
        });
        let rollouts = made.into_iter().zip(keys).map(|(made, (prompt, _))| {
            let completion = [forced, &made.tokens].concat();
            self.rollout_of(&prompts[*prompt], completion, made.logprobs, made.finished)
        });
        rollouts.collect()
    }

    /// What was sampled as a rollout of this policy.
    pub(crate) fn rollout_of(
        &self,
        prompt: &[u32],
        completion: Vec<u32>,
        logprobs: Vec<f32>,
        finished: bool,
    ) -> Rollout {
        // The end of a turn is not part of what was said; other models end with a part of their answer.
        let silent = usize::from(self.chat.is_some() && finished);
        let text = self.codec.decode(&completion[..completion.len() - silent]);
        Rollout { prompt: prompt.to_vec(), completion, logprobs, text, finished, version: self.version }
    }
}
