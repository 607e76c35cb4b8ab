//! One optimiser step on a device.
//!
//! The loss is the caller's: it sees each sequence's log-probabilities and answers with the loss's gradient by
//! them. So a part of a step runs the decoder blocks, brings log-probabilities to the host, and takes the
//! answer back: through the output matrix in chunks, so that logits never exist for a whole part, and then
//! through the blocks. With checkpointing only the inputs of blocks are kept, and each block is run again when
//! its turn comes.

use candle_core::backprop::GradStore;
use candle_core::{D, Result as TensorResult, Tensor, Var};

use super::TensorPolicy;
use super::batch::{self, Limits};
use super::model::TensorModel;
use crate::error::{PolicyError, Result};
use crate::update::{UpdateConfig, UpdateReport};
use crate::weights::Parameter;

/// Logits that exist at a time (128 MiB in f32; their gradients and softmax take as much again).
const LOGIT_VALUES_MAX: usize = 1 << 25;

/// A loss of one sequence: gets its position in the step and the log-probabilities of its completion tokens,
/// writes ∂loss/∂log-probability of each, returns its part of the loss. [`crate::loss::sequence_loss`] is one.
pub type SequenceLoss<'a> = dyn FnMut(usize, &[f32], &mut [f32]) -> f32 + 'a;

/// How a step uses memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepOptions {
    /// Tokens of one part of a step, padding included; at least one sequence is taken.
    pub micro_batch_tokens: usize,
    /// Whether a block's activations are computed again in the backward pass rather than kept.
    pub checkpointing: bool,
}

impl Default for StepOptions {
    fn default() -> Self {
        Self { micro_batch_tokens: 8192, checkpointing: false }
    }
}

/// An optimiser (AdamW) whose moments lie on the policy's device.
pub struct TensorTrainer {
    config: UpdateConfig,
    options: StepOptions,
    moments: Vec<(Tensor, Tensor)>,
    steps: u64,
}

/// The running means of one parameter's gradient, in Hugging Face's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// The parameter's name.
    pub name: String,
    /// Mean of gradients.
    pub first: Vec<f32>,
    /// Mean of their squares.
    pub second: Vec<f32>,
}

/// What a gradient came with.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    loss: f32,
    entropy: f64,
    tokens: usize,
}

/// Gradients of a policy's variables, in their order.
struct Gradients<'a> {
    variables: &'a [(Parameter, Var)],
    sums: Vec<Option<Tensor>>,
}

impl<'a> Gradients<'a> {
    fn new(variables: &'a [(Parameter, Var)]) -> Self {
        Self { variables, sums: vec![None; variables.len()] }
    }

    /// Adds what one backward pass found, and forgets the graph that it came from.
    fn add(&mut self, mut store: GradStore) -> TensorResult<()> {
        for ((_, variable), sum) in self.variables.iter().zip(&mut self.sums) {
            let Some(gradient) = store.remove(variable) else { continue };
            let gradient = gradient.detach();
            *sum = Some(match sum.take() {
                Some(sum) => (sum + gradient)?,
                None => gradient,
            });
        }
        Ok(())
    }

    /// Adds the gradient of a tensor whose own gradient is known.
    fn chain(&mut self, y: &Tensor, gradient: &Tensor) -> TensorResult<()> {
        if y.track_op() { self.add((y * gradient)?.sum_all()?.backward()?) } else { Ok(()) }
    }

    /// [`Self::chain`]; returns the gradient of `x`.
    fn chain_to(&mut self, x: &Var, y: &Tensor, gradient: &Tensor) -> TensorResult<Tensor> {
        let mut store = (y * gradient)?.sum_all()?.backward()?;
        let dx = store.remove(x).map(|dx| dx.detach());
        self.add(store)?;
        dx.map_or_else(|| x.zeros_like(), Ok)
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
    temperature: f32,
    checkpointing: bool,
    gradients: Gradients<'a>,
}

impl Pass<'_> {
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
            d_hidden.push(self.gradients.chain_to(&x, &logprobs, &answer)?);
        }
        Tensor::cat(&d_hidden, 0)
    }

    /// Takes the gradient by the chosen hidden states back through the blocks to the embedding.
    fn backward(&mut self, part: &Part, trunk: Trunk, d_hidden: &Tensor) -> TensorResult<()> {
        let (inputs, last) = match trunk {
            Trunk::Graph(hidden) => return self.gradients.chain(&part.select(&hidden)?, d_hidden),
            Trunk::Inputs(inputs, last) => (inputs, Var::from_tensor(&last)?),
        };
        let frame = self.model.frame(part.ids.dim(1)?)?;
        let hidden = part.select(&self.model.last_norm(&last)?)?;
        let mut dx = self.gradients.chain_to(&last, &hidden, d_hidden)?;
        for (block, x) in self.model.blocks.iter().zip(inputs).rev() {
            let x = Var::from_tensor(&x)?;
            dx = self.gradients.chain_to(&x, &self.model.block(block, &x, &frame)?, &dx)?;
        }
        self.gradients.chain(&self.model.embed(&part.ids)?, &dx)
    }
}

impl TensorTrainer {
    /// A fresh optimiser for a policy.
    ///
    /// # Errors
    /// [`PolicyError::Tensor`], as when the device has no memory for the moments.
    pub fn new(policy: &TensorPolicy, config: UpdateConfig, options: StepOptions) -> Result<Self> {
        let zeros = |(_, variable): &(Parameter, Var)| Ok((variable.zeros_like()?, variable.zeros_like()?));
        let moments = policy.variables().iter().map(zeros).collect::<TensorResult<_>>()?;
        Ok(Self { config, options, moments, steps: 0 })
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The moments of every trained parameter, for a checkpoint.
    ///
    /// # Errors
    /// [`PolicyError::Tensor`].
    pub fn moments(&self, policy: &TensorPolicy) -> Result<Vec<Moments>> {
        let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        let moments =
            policy.variables().iter().zip(&self.moments).map(|((parameter, _), (first, second))| {
                Ok(Moments { name: parameter.name.clone(), first: values(first)?, second: values(second)? })
            });
        moments.collect()
    }

    /// Goes on from a checkpoint's moments and number of steps.
    ///
    /// # Errors
    /// [`PolicyError::Input`] when a trained parameter's moments are missing or of another size.
    pub fn restore(&mut self, policy: &TensorPolicy, moments: &[Moments], steps: u64) -> Result<()> {
        let mut restored = Vec::with_capacity(self.moments.len());
        for (parameter, variable) in policy.variables() {
            let found = moments.iter().find(|moments| moments.name == parameter.name);
            let fits = found.filter(|m| [m.first.len(), m.second.len()] == [parameter.len(); 2]);
            let Moments { first, second, .. } = fits.ok_or_else(|| {
                let what = format!("no moments of {} values for {}", parameter.len(), parameter.name);
                PolicyError::input(what, "restore the checkpoint of this very model and adapter")
            })?;
            let tensor = |values: &[f32]| Tensor::from_slice(values, variable.shape(), variable.device());
            restored.push((tensor(first)?, tensor(second)?));
        }
        (self.moments, self.steps) = (restored, steps);
        Ok(())
    }

    /// One step on (prompt, completion) pairs with the caller's loss, at the config's `loss_temperature`.
    /// Whatever is not finite leaves the weights as they were, and the report says so.
    ///
    /// # Errors
    /// [`PolicyError::Input`] for empty or too long sequences, ids beyond the vocabulary, or a precision that
    /// does not train; [`PolicyError::Tensor`].
    pub fn step(
        &mut self,
        policy: &mut TensorPolicy,
        sequences: &[(&[u32], &[u32])],
        rate: f32,
        loss: &mut SequenceLoss,
    ) -> Result<UpdateReport> {
        let (sums, gradients) = self.accumulate(policy, sequences, loss)?;
        let mut report = UpdateReport {
            loss: sums.loss,
            grad_norm: gradients.norm()? as f32,
            learning_rate: rate,
            tokens: sums.tokens,
            entropy: (sums.entropy / sums.tokens.max(1) as f64) as f32,
            ..UpdateReport::default()
        };
        if sums.tokens == 0 {
            report.skipped = Some("there was no sequence to learn from".into());
        } else if !report.grad_norm.is_finite() || !report.loss.is_finite() {
            report.skipped = Some(format!(
                "loss {} or gradient norm {} is not finite; the weights stay as they were",
                report.loss, report.grad_norm
            ));
        } else {
            let clip = self.config.clip_norm;
            let scale = if report.grad_norm > clip { clip / report.grad_norm } else { 1.0 };
            self.adam_step(&gradients, rate, scale)?;
        }
        Ok(report)
    }

    /// The loss of a step and its gradient by every trained parameter, in Hugging Face's order, without
    /// taking the step.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn gradient(
        &self,
        policy: &TensorPolicy,
        sequences: &[(&[u32], &[u32])],
        loss: &mut SequenceLoss,
    ) -> Result<(f32, Vec<(Parameter, Vec<f32>)>)> {
        let (sums, gradients) = self.accumulate(policy, sequences, loss)?;
        let values = |((parameter, _), sum): (&(Parameter, Var), &Option<Tensor>)| {
            let values = match sum {
                Some(sum) => sum.flatten_all()?.to_vec1::<f32>()?,
                None => vec![0.0; parameter.len()],
            };
            Ok((parameter.clone(), values))
        };
        let named = policy.variables().iter().zip(&gradients.sums).map(values);
        Ok((sums.loss, named.collect::<TensorResult<_>>()?))
    }

    /// Adds up the gradient of all sequences.
    fn accumulate<'p>(
        &self,
        policy: &'p TensorPolicy,
        sequences: &[(&[u32], &[u32])],
        loss: &mut SequenceLoss,
    ) -> Result<(Sums, Gradients<'p>)> {
        policy.check_trains()?;
        policy.check_sequences(sequences)?;
        let lengths: Vec<usize> = sequences.iter().map(|(p, c)| p.len() + c.len()).collect();
        let limits = Limits { tokens_max: self.options.micro_batch_tokens };
        let mut sums = Sums::default();
        let mut pass = Pass {
            model: policy.model(),
            fixed: policy.model().detached()?,
            temperature: self.config.loss_temperature,
            checkpointing: self.options.checkpointing,
            gradients: Gradients::new(policy.variables()),
        };
        for positions in limits.parts(&lengths, policy.config()) {
            let chosen: Vec<(&[u32], &[u32])> = positions.iter().map(|n| sequences[*n]).collect();
            let part = Part::new(&chosen, policy.model().device())?;
            let mut answer = |logprobs: &[f32], answer: &mut [f32]| {
                let mut start = 0;
                for n in &positions {
                    let range = start..start + sequences[*n].1.len();
                    sums.loss += loss(*n, &logprobs[range.clone()], &mut answer[range.clone()]);
                    start = range.end;
                }
            };
            sums.entropy += pass.take(&part, &mut answer)?;
            sums.tokens += part.targets.len();
        }
        Ok((sums, pass.gradients))
    }

    /// AdamW (Loshchilov and Hutter), bias-corrected; weight decay on matrices only.
    fn adam_step(&mut self, gradients: &Gradients, rate: f32, scale: f32) -> TensorResult<()> {
        self.steps += 1;
        let config = &self.config;
        let [b1, b2] = [config.adam_beta1, config.adam_beta2].map(f64::from);
        let correct = |beta: f64| 1.0 - libm::pow(beta, self.steps as f64);
        let (rate, decay) = (f64::from(rate), f64::from(config.weight_decay));
        for (((parameter, variable), sum), (first, second)) in
            gradients.variables.iter().zip(&gradients.sums).zip(&mut self.moments)
        {
            let gradient = match sum {
                Some(sum) => (sum * f64::from(scale))?,
                None => variable.zeros_like()?,
            };
            *first = ((&*first * b1)? + (&gradient * (1.0 - b1))?)?;
            *second = ((&*second * b2)? + (gradient.sqr()? * (1.0 - b2))?)?;
            let root = ((&*second / correct(b2))?.sqrt()? + f64::from(config.adam_epsilon))?;
            let change = ((&*first * (rate / correct(b1)))? / root)?;
            let kept = if parameter.shape.len() > 1 { 1.0 - rate * decay } else { 1.0 };
            variable.set(&((variable.as_detached_tensor() * kept)? - change)?)?;
        }
        Ok(())
    }
}
