//! Learning on a device.
//!
//! The loss is `step`'s: it sees each sequence's log-probabilities and answers with the loss's gradient by them.
//! So a part of a step runs the decoder blocks, brings log-probabilities to the host, and takes the answer
//! back: through the output matrix in chunks, so that logits never exist for a whole part, and then through the
//! blocks. With checkpointing only the inputs of blocks are kept, and each block is run again when its turn
//! comes.

use candle_core::backprop::GradStore;
use candle_core::{D, Result as TensorResult, Tensor, Var};

use super::batch::{self, Limits};
use super::model::TensorModel;
use super::{PASS_TOKENS_MAX, TensorPolicy};
use crate::error::{PolicyError, Result};
use crate::forward::Keep;
use crate::rollout::Group;
use crate::settings::UpdateConfig;
use crate::step::{Lesson, Objective, Sums, kept_activations, pairs};
use crate::training::{Training, check_pair, imitations};
use crate::update::{IdPair, Trainer, UpdateReport};
use crate::weights::Parameter;

/// Values that the blocks of one part of a step keep for the backward pass, about (8 GiB in f32).
const ACTIVATIONS_MAX: usize = 1 << 31;
/// What candle's graph and its gradients keep for each value that the CPU engine keeps: 5 were measured, and 7
/// with checkpointing.
const GRAPH_FACTOR: usize = 6;
/// Most tokens of one part of a step.
const PART_TOKENS_MAX: usize = 8192;
/// Logits that exist at a time (128 MiB in f32; their gradients and softmax take as much again).
const LOGIT_VALUES_MAX: usize = 1 << 25;

/// An optimiser (AdamW) whose moments lie on the policy's device.
pub struct TensorTrainer {
    config: UpdateConfig,
    /// What `beta` holds the policy to, where that is not the policy without its adapter.
    reference: Option<TensorModel>,
    moments: Vec<(Tensor, Tensor)>,
    steps: u64,
}

/// Gradients of a policy's variables, in their order; `None` for one that is 0.
#[derive(Default)]
struct Gradients {
    sums: Vec<Option<Tensor>>,
}

impl Gradients {
    /// Adds what one backward pass found, and forgets the graph that it came from.
    fn add(&mut self, variables: &[(Parameter, Var)], mut store: GradStore) -> TensorResult<()> {
        for ((_, variable), sum) in variables.iter().zip(&mut self.sums) {
            let Some(gradient) = store.remove(variable) else { continue };
            let gradient = gradient.detach();
            *sum = Some(match sum.take() {
                Some(sum) => (sum + gradient)?,
                None => gradient,
            });
        }
        Ok(())
    }

    /// The Euclidean norm of all of them together. Rows are summed on the device, their sums here in f64.
    fn norm(&self) -> TensorResult<f64> {
        let mut square = 0.0;
        for sum in self.sums.iter().flatten() {
            let rows = sum.sqr()?.sum(D::Minus1)?.flatten_all()?.to_vec1::<f32>()?;
            square += rows.into_iter().map(f64::from).sum::<f64>();
        }
        Ok(square.sqrt())
    }
}

/// The decoder blocks of one part, run forward.
enum Trunk {
    /// Normalised hidden states with their graph, `[B, T, C]`.
    Graph(Tensor),
    /// The input of every block and of the last norm, `[B, T, C]` each, without graph.
    Inputs(Vec<Tensor>, Tensor),
}

/// One part of a step on the device.
struct Part {
    ids: Tensor,
    /// Rows of the flattened `[B·T, C]` that predict completion tokens.
    rows: Tensor,
    /// Those tokens.
    targets: Vec<u32>,
}

impl Part {
    fn new(sequences: &[(&[u32], &[u32])], device: &candle_core::Device) -> TensorResult<Self> {
        // The last token predicts nothing.
        let inputs: Vec<Vec<u32>> =
            sequences.iter().map(|(p, c)| [p, &c[..c.len().saturating_sub(1)]].concat()).collect();
        let t = inputs.iter().map(Vec::len).max().unwrap_or(0);
        let rows = sequences.iter().enumerate().flat_map(|(n, (prompt, completion))| {
            let first = n * t + prompt.len() - 1;
            (first..first + completion.len()).map(|row| row as u32)
        });
        Ok(Self {
            ids: batch::padded(&inputs, t, device)?,
            rows: Tensor::new(rows.collect::<Vec<u32>>(), device)?,
            targets: sequences.iter().flat_map(|(_, completion)| *completion).copied().collect(),
        })
    }

    fn select(&self, hidden: &Tensor) -> TensorResult<Tensor> {
        hidden.flatten(0, 1)?.index_select(&self.rows, 0)
    }
}

/// Log-probabilities at a temperature of the tokens that rows of hidden states `[N, C]` predict, and each
/// distribution's entropy, in chunks and without gradients.
fn scored(
    model: &TensorModel,
    hidden: &Tensor,
    targets: &[u32],
    temperature: f32,
) -> TensorResult<(Vec<f32>, f64)> {
    let (mut logprobs, mut entropy) = (Vec::with_capacity(targets.len()), 0.0);
    for (first, targets) in chunks(model, targets) {
        let all = distribution(model, &hidden.narrow(0, first, targets.len())?, temperature)?;
        logprobs.extend(chosen(&all, targets)?.to_vec1::<f32>()?);
        let rows = (&all * all.exp()?)?.sum(D::Minus1)?.to_vec1::<f32>()?;
        entropy -= rows.into_iter().map(f64::from).sum::<f64>();
    }
    Ok((logprobs, entropy))
}

/// Parts of the targets whose logits may exist together, and where each begins.
fn chunks<'t>(model: &TensorModel, targets: &'t [u32]) -> impl Iterator<Item = (usize, &'t [u32])> {
    let rows = (LOGIT_VALUES_MAX / model.config().vocab_size.max(1)).max(1);
    targets.chunks(rows).enumerate().map(move |(n, targets)| (n * rows, targets))
}

/// Log-probabilities of every id: `[N, C]` → `[N, V]`.
fn distribution(model: &TensorModel, hidden: &Tensor, temperature: f32) -> TensorResult<Tensor> {
    candle_nn::ops::log_softmax(&(model.logits(hidden)? / f64::from(temperature))?, D::Minus1)
}

/// One column of each row `[N, V]`: `[N]`.
fn chosen(all: &Tensor, targets: &[u32]) -> TensorResult<Tensor> {
    all.gather(&Tensor::new(targets, all.device())?.unsqueeze(1)?, 1)?.squeeze(1)
}

/// Log-probabilities of every sequence's completion tokens.
pub(super) fn logprobs(
    model: &TensorModel,
    sequences: &[(&[u32], &[u32])],
    temperature: f32,
    limits: Limits,
) -> TensorResult<Vec<Vec<f32>>> {
    let lengths: Vec<usize> = sequences.iter().map(|(p, c)| p.len() + c.len()).collect();
    let mut all = vec![Vec::new(); sequences.len()];
    for positions in limits.parts(&lengths, model.config()) {
        let chosen: Vec<(&[u32], &[u32])> = positions.iter().map(|n| sequences[*n]).collect();
        let part = Part::new(&chosen, model.device())?;
        let hidden = part.select(&model.hidden(&part.ids)?)?;
        let (logprobs, _) = scored(model, &hidden, &part.targets, temperature)?;
        let mut rest = &logprobs[..];
        for n in positions {
            let (own, others) = rest.split_at(sequences[n].1.len());
            all[n] = own.to_vec();
            rest = others;
        }
    }
    Ok(all)
}

/// Forward and backward passes of one step.
struct Pass<'a> {
    model: &'a TensorModel,
    /// The same weights without gradients.
    fixed: TensorModel,
    variables: &'a [(Parameter, Var)],
    temperature: f32,
    checkpointing: bool,
    gradients: Gradients,
}

impl Pass<'_> {
    /// Adds the gradient of a tensor whose own gradient is known.
    fn chain(&mut self, y: &Tensor, gradient: &Tensor) -> TensorResult<()> {
        if !y.track_op() {
            return Ok(());
        }
        self.gradients.add(self.variables, (y * gradient)?.sum_all()?.backward()?)
    }

    /// [`Self::chain`]; returns the gradient of `x`.
    fn chain_to(&mut self, x: &Var, y: &Tensor, gradient: &Tensor) -> TensorResult<Tensor> {
        let mut store = (y * gradient)?.sum_all()?.backward()?;
        let dx = store.remove(x).map(|dx| dx.detach());
        self.gradients.add(self.variables, store)?;
        dx.map_or_else(|| x.zeros_like(), Ok)
    }

    /// Adds one part's gradient; returns the summed entropy of its distributions.
    fn take(&mut self, part: &Part, loss: &mut dyn FnMut(&[f32], &mut [f32])) -> TensorResult<f64> {
        let trunk = self.forward(&part.ids)?;
        let hidden = match &trunk {
            Trunk::Graph(hidden) => part.select(&hidden.detach())?,
            Trunk::Inputs(_, last) => part.select(&self.fixed.last_norm(last)?)?,
        };
        let (logprobs, entropy) = scored(&self.fixed, &hidden, &part.targets, self.temperature)?;
        let mut answer = vec![0.0; logprobs.len()];
        loss(&logprobs, &mut answer);
        let d_hidden = self.head_backward(&hidden, &part.targets, &answer)?;
        self.backward(part, trunk, &d_hidden)?;
        Ok(entropy)
    }

    fn forward(&self, ids: &Tensor) -> TensorResult<Trunk> {
        if !self.checkpointing {
            return self.model.hidden(ids).map(Trunk::Graph);
        }
        let frame = self.fixed.frame(ids.dim(1)?)?;
        let mut x = self.fixed.embed(ids)?;
        let mut inputs = Vec::with_capacity(self.fixed.blocks.len());
        for block in &self.fixed.blocks {
            let y = self.fixed.block(block, &x, &frame)?;
            inputs.push(std::mem::replace(&mut x, y));
        }
        Ok(Trunk::Inputs(inputs, x))
    }

    /// Takes the answer back through the output matrix: the gradient by the chosen hidden states `[N, C]`.
    fn head_backward(&mut self, hidden: &Tensor, targets: &[u32], answer: &[f32]) -> TensorResult<Tensor> {
        let mut d_hidden = Vec::new();
        for (first, targets) in chunks(self.model, targets) {
            let x = Var::from_tensor(&hidden.narrow(0, first, targets.len())?)?;
            let logprobs = chosen(&distribution(self.model, &x, self.temperature)?, targets)?;
            let answer = Tensor::new(&answer[first..first + targets.len()], x.device())?;
            d_hidden.push(self.chain_to(&x, &logprobs, &answer)?);
        }
        Tensor::cat(&d_hidden, 0)
    }

    /// Takes the gradient by the chosen hidden states back through the blocks to the embedding.
    fn backward(&mut self, part: &Part, trunk: Trunk, d_hidden: &Tensor) -> TensorResult<()> {
        let (inputs, last) = match trunk {
            Trunk::Graph(hidden) => return self.chain(&part.select(&hidden)?, d_hidden),
            Trunk::Inputs(inputs, last) => (inputs, Var::from_tensor(&last)?),
        };
        let frame = self.model.frame(part.ids.dim(1)?)?;
        let hidden = part.select(&self.model.last_norm(&last)?)?;
        let mut dx = self.chain_to(&last, &hidden, d_hidden)?;
        for (block, x) in self.model.blocks.iter().zip(inputs).rev() {
            let x = Var::from_tensor(&x)?;
            dx = self.chain_to(&x, &self.model.block(block, &x, &frame)?, &dx)?;
        }
        self.chain(&self.model.embed(&part.ids)?, &dx)
    }
}

impl TensorTrainer {
    /// Copies an optimiser, its settings and the reference it needs to a policy's device.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for the optimiser of another policy; [`PolicyError::Tensor`], as when the
    /// device's memory is too small.
    pub fn new(policy: &TensorPolicy, trainer: &Trainer) -> Result<Self> {
        let (first, second) = (&trainer.optimizer.first, &trainer.optimizer.second);
        if first.len() != policy.values_len() {
            let what = format!("moments of {} values where {} learn", first.len(), policy.values_len());
            return Err(PolicyError::input(what, "use the trainer that belongs to this policy"));
        }
        let mut moments = Vec::new();
        for (parameter, variable) in policy.variables() {
            let tensor = |from: &[f32]| {
                let mut values = Vec::new();
                parameter.read_rows(from, 0..parameter.rows(), &mut values);
                Tensor::from_vec(values, variable.shape(), variable.device())
            };
            moments.push((tensor(first)?, tensor(second)?));
        }
        let reference = trainer.reference.as_ref();
        let reference = reference.filter(|_| trainer.config.beta != 0.0 && policy.lora.is_none());
        let reference = reference.map(|reference| policy.beside(reference)).transpose()?;
        let config = trainer.config.clone();
        Ok(Self { config, reference, moments, steps: trainer.optimizer.steps })
    }

    /// Copies the optimiser's state back.
    ///
    /// # Errors
    /// [`PolicyError::Tensor`]; the trainer is then as it was.
    pub fn write_back(&self, policy: &TensorPolicy, trainer: &mut Trainer) -> Result<()> {
        let first = policy.stored(self.moments.iter().map(|(first, _)| Some(first)))?;
        let second = policy.stored(self.moments.iter().map(|(_, second)| Some(second)))?;
        (trainer.optimizer.first, trainer.optimizer.second) = (first, second);
        trainer.optimizer.steps = self.steps;
        Ok(())
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// As [`Trainer::update`]. When it fails, steps that were taken before stay.
    ///
    /// # Errors
    /// As [`Trainer::update`]; [`PolicyError::Input`] for sequences that the model does not read or a precision
    /// that does not train; [`PolicyError::Tensor`].
    pub fn update(
        &mut self,
        policy: &mut TensorPolicy,
        groups: &[(Group, Vec<f32>)],
        round: u32,
    ) -> Result<UpdateReport> {
        OnDevice { trainer: self, policy, gradients: Gradients::default() }.update(groups, round)
    }

    /// As [`Trainer::supervise_ids`].
    ///
    /// # Errors
    /// As [`Trainer::supervise_ids`]; [`PolicyError::Input`] for a precision that does not train;
    /// [`PolicyError::Tensor`].
    pub fn supervise_ids(&mut self, policy: &mut TensorPolicy, pairs: &[IdPair], rate: f32) -> Result<f32> {
        pairs.iter().try_for_each(|pair| check_pair(policy.config(), pair))?;
        OnDevice { trainer: self, policy, gradients: Gradients::default() }.imitate(pairs, rate)
    }

    /// As [`Trainer::imitation_gradient`], in the same layout.
    ///
    /// # Errors
    /// As [`Self::supervise_ids`].
    pub fn imitation_gradient(
        policy: &TensorPolicy,
        pairs: &[IdPair],
        config: &UpdateConfig,
    ) -> Result<(f32, Vec<f32>)> {
        pairs.iter().try_for_each(|pair| check_pair(policy.config(), pair))?;
        let (sums, gradients) = accumulate(policy, config, &imitations(pairs), &Objective::Imitate)?;
        Ok((sums.part.loss, policy.stored(gradients.sums.iter().map(Option::as_ref))?))
    }

    /// AdamW (Loshchilov and Hutter), bias-corrected; weight decay on matrices only.
    fn adam_step(
        &mut self,
        variables: &[(Parameter, Var)],
        gradients: &Gradients,
        rate: f32,
        scale: f32,
    ) -> TensorResult<()> {
        self.steps += 1;
        let config = &self.config;
        let [b1, b2] = [config.adam_beta1, config.adam_beta2].map(f64::from);
        let correct = |beta: f64| 1.0 - libm::pow(beta, self.steps as f64);
        let (rate, decay) = (f64::from(rate), f64::from(config.weight_decay));
        for (((parameter, variable), sum), (first, second)) in
            variables.iter().zip(&gradients.sums).zip(&mut self.moments)
        {
            let gradient = match sum {
                Some(sum) => (sum * f64::from(scale))?,
                None => variable.zeros_like()?,
            };
            *first = ((&*first * b1)? + (&gradient * (1.0 - b1))?)?;
            *second = ((&*second * b2)? + (gradient.sqr()? * (1.0 - b2))?)?;
            let root = ((&*second / correct(b2))?.sqrt()? + f64::from(config.adam_epsilon))?;
            let change = ((&*first * (rate / correct(b1)))? / root)?;
            let kept = if parameter.is_matrix() { 1.0 - rate * decay } else { 1.0 };
            variable.set(&((variable.as_detached_tensor() * kept)? - change)?)?;
        }
        Ok(())
    }
}

/// A trainer and what it trains.
struct OnDevice<'a> {
    trainer: &'a mut TensorTrainer,
    policy: &'a mut TensorPolicy,
    gradients: Gradients,
}

impl Training for OnDevice<'_> {
    fn config(&self) -> &UpdateConfig {
        &self.trainer.config
    }

    fn reference_logprobs(&mut self, lessons: &[Lesson]) -> Result<Option<Vec<Vec<f32>>>> {
        let (sequences, temperature) = (pairs(lessons), self.trainer.config.loss_temperature);
        if self.policy.lora.is_some() {
            return self.policy.base_logprobs(&sequences, temperature).map(Some);
        }
        self.policy.check_sequences(&sequences)?;
        let limits = Limits { tokens_max: PASS_TOKENS_MAX };
        let under = |model| logprobs(model, &sequences, temperature, limits);
        Ok(self.trainer.reference.as_ref().map(under).transpose()?)
    }

    fn accumulate(&mut self, lessons: &[Lesson], objective: &Objective) -> Result<Sums> {
        // Freed first, so that two sets of gradients never exist.
        self.gradients = Gradients::default();
        let (sums, gradients) = accumulate(self.policy, &self.trainer.config, lessons, objective)?;
        self.gradients = gradients;
        Ok(sums)
    }

    fn gradient_norm(&self) -> Result<f32> {
        Ok(self.gradients.norm()? as f32)
    }

    fn step(&mut self, rate: f32, scale: f32) -> Result<()> {
        Ok(self.trainer.adam_step(self.policy.variables(), &self.gradients, rate, scale)?)
    }
}

/// Tokens of one part of a step, padding included; at least one sequence is taken.
fn part_tokens(policy: &TensorPolicy, config: &UpdateConfig) -> usize {
    let keep = if config.gradient_checkpointing { Keep::Inputs } else { Keep::Everything };
    let values = GRAPH_FACTOR * kept_activations(policy.config(), keep);
    config
        .micro_batch_tokens
        .map_or((ACTIVATIONS_MAX / values).clamp(1, PART_TOKENS_MAX), |tokens| tokens as usize)
}

/// Adds up the gradient of all lessons.
fn accumulate(
    policy: &TensorPolicy,
    config: &UpdateConfig,
    lessons: &[Lesson],
    objective: &Objective,
) -> Result<(Sums, Gradients)> {
    policy.check_trains()?;
    let sequences = pairs(lessons);
    policy.check_sequences(&sequences)?;
    let lengths: Vec<usize> = sequences.iter().map(|(p, c)| p.len() + c.len()).collect();
    let limits = Limits { tokens_max: part_tokens(policy, config) };
    let totals = objective.totals(lessons);
    let mut sums = Sums { logprobs: vec![Vec::new(); lessons.len()], ..Sums::default() };
    let mut pass = Pass {
        model: policy.model(),
        fixed: policy.model().detached()?,
        variables: policy.variables(),
        temperature: objective.temperature(config),
        checkpointing: config.gradient_checkpointing,
        gradients: Gradients { sums: vec![None; policy.variables().len()] },
    };
    for positions in limits.parts(&lengths, policy.config()) {
        let chosen: Vec<(&[u32], &[u32])> = positions.iter().map(|n| sequences[*n]).collect();
        let part = Part::new(&chosen, policy.model().device())?;
        let mut answer = |logprobs: &[f32], answer: &mut [f32]| {
            let mut start = 0;
            for n in &positions {
                let range = start..start + lessons[*n].completion.len();
                start = range.end;
                let logprobs = &logprobs[range.clone()];
                sums.add(objective.loss(totals, &lessons[*n], logprobs, &mut answer[range]));
                sums.logprobs[*n] = logprobs.to_vec();
            }
        };
        let entropy = pass.take(&part, &mut answer)?;
        sums.entropy += entropy as f32;
    }
    Ok((sums, pass.gradients))
}
