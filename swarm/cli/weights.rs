//! What a peer shows its auditors: the values that training changed, and all that sampling depends on besides.

use std::collections::BTreeMap;

use policy::{LoraConfig, Policy, Sampling, SamplingWeights};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use swarm::blob::BLOB_BYTES_MAX;
use swarm::wire::{self, Hash};

/// Matrices of a block that may have an adapter.
const TARGETS_MAX: usize = 16;

/// The content of the blob. Floating-point numbers are their bits: the wire has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shared {
    /// Hash of the model that the values belong to: without adapter an embedded base, which they replace.
    base: Hash,
    /// Hash over how prompts are put to it.
    prompting: Hash,
    bf16: bool,
    sampling: SamplingBits,
    adapter: Option<AdapterBits>,
    /// f32, little endian.
    values: ByteBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SamplingBits {
    temperature: u32,
    top_k: u32,
    top_p: u32,
    min_p: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AdapterBits {
    rank: u32,
    alpha: u32,
    #[serde(deserialize_with = "wire::at_most::<_, _, TARGETS_MAX>")]
    targets: Vec<String>,
}

/// How a peer shares its weights, if it can.
#[derive(Clone, Debug)]
pub(crate) struct Sharing {
    base: Hash,
    prompting: Hash,
    sampling: Sampling,
    bytes_max: usize,
}

impl Sharing {
    /// For a policy that began with a model.
    ///
    /// # Errors
    /// Why its answers cannot be audited, in words.
    pub(crate) fn of(
        policy: &Policy,
        base: &str,
        sampling: Sampling,
        bytes_max: u32,
    ) -> Result<Self, String> {
        let bytes = policy.learnt_values().len() * 4;
        if bytes > bytes_max as usize {
            let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
            let (bytes, most) = (mib(bytes), mib(bytes_max as usize));
            return Err(format!("weights of {bytes:.1} MiB exceed the {most:.1} MiB that the swarm shares"));
        }
        let embedded = || policy::bases().contains(&base).then(|| Policy::embedded(base));
        let base = match (policy.adapter(), embedded()) {
            (Some(_), _) => policy.base_hash(),
            (None, Some(Ok(base))) => base.hash(),
            (None, _) => return Err("its model is neither an embedded one nor an adapter".into()),
        };
        let prompting = policy.prompting_hash().map_err(|error| error.to_string())?;
        Ok(Self { base: Hash(base), prompting: Hash(prompting), sampling, bytes_max: bytes_max as usize })
    }

    /// The blob for auditors; nothing where it is too large after all.
    pub(crate) fn blob(&self, policy: &Policy) -> Option<Vec<u8>> {
        let learnt = policy.learnt_values();
        let mut values = vec![0; learnt.len() * 4];
        for (bytes, value) in values.as_chunks_mut::<4>().0.iter_mut().zip(learnt) {
            *bytes = value.to_le_bytes();
        }
        let adapter = policy.adapter().map(|adapter| AdapterBits {
            rank: adapter.config().rank as u32,
            alpha: adapter.config().alpha.to_bits(),
            targets: adapter.config().targets.clone(),
        });
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.sampling;
        let blob = wire::encode(&Shared {
            base: self.base,
            prompting: self.prompting,
            bf16: policy.sampling_weights() == SamplingWeights::Bf16,
            sampling: SamplingBits {
                temperature: temperature.to_bits(),
                top_k: u32::try_from(top_k).unwrap_or(u32::MAX),
                top_p: top_p.to_bits(),
                min_p: min_p.to_bits(),
            },
            adapter,
            values: ByteBuf::from(values),
        });
        (blob.len() <= self.bytes_max).then_some(blob)
    }
}

/// Why a blob cannot be computed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It is none that an honest peer makes.
    Wrong(String),
    /// It belongs to something that is not here.
    Foreign(String),
}

/// The models that blobs may belong to.
pub(crate) struct Bases {
    /// By hash; read when first asked for.
    known: BTreeMap<Hash, Policy>,
}

impl Bases {
    /// The embedded models, and what a peer's own adapter is put on.
    ///
    /// # Errors
    /// An embedded model that cannot be read.
    pub(crate) fn new(own: &Policy) -> policy::Result<Self> {
        let mut known = BTreeMap::new();
        for name in policy::bases() {
            let base = Policy::embedded(name)?.with_threads(1)?;
            known.insert(Hash(base.hash()), base);
        }
        if own.adapter().is_some() {
            known.insert(Hash(own.base_hash()), own.without_adapter());
        }
        Ok(Self { known })
    }

    /// The policy and the sampling that a blob describes.
    pub(crate) fn open(&self, blob: &[u8], new_tokens_max: usize) -> Result<(Policy, Sampling), Unusable> {
        let wrong = |why: String| Unusable::Wrong(why);
        let shared: Shared =
            wire::decode(blob, BLOB_BYTES_MAX).map_err(|error| wrong(format!("no weights: {error}")))?;
        let Some(base) = self.known.get(&shared.base) else {
            return Err(Unusable::Foreign("weights of a model that is not here".into()));
        };
        if base.prompting_hash().ok() != Some(shared.prompting.0) {
            return Err(Unusable::Foreign("prompts are put to the model in another way".into()));
        }
        let (values, rest) = shared.values.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(wrong("values that are cut off".into()));
        }
        let values: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let policy = match shared.adapter {
            None => base.clone().with_learnt_values(&values),
            Some(AdapterBits { rank, alpha, targets }) => {
                let config = LoraConfig { rank: rank as usize, alpha: f32::from_bits(alpha), targets };
                base.clone().with_adapter_values(config, &values)
            }
        };
        let policy = policy.map_err(|error| wrong(error.to_string()))?;
        let precision = if shared.bf16 { SamplingWeights::Bf16 } else { SamplingWeights::F32 };
        let SamplingBits { temperature, top_k, top_p, min_p } = shared.sampling;
        let sampling = Sampling {
            temperature: f32::from_bits(temperature),
            new_tokens_max,
            top_k: top_k as usize,
            top_p: f32::from_bits(top_p),
            min_p: f32::from_bits(min_p),
        };
        sampling.check().map_err(wrong)?;
        Ok((policy.with_sampling_weights(precision), sampling))
    }
}
