//! A LoRA adapter as PEFT reads it: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! The adapted matrix is `W + alpha / rank · B A`, with `A` `[rank, in]` and `B` `[out, rank]`.

use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

use crate::error::{PolicyError, Result};
use crate::files::{ExportCard, read_limited, replace_directory, write};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// Bytes of an adapter's weights; rank 64 on all matrices of a model of 8 billion parameters is a tenth of it.
const WEIGHTS_BYTES_MAX: u64 = 8 << 30;

/// One of the two matrices of an adapted one.
#[derive(Clone, Debug)]
pub struct AdapterTensor {
    /// PEFT's name, such as `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`.
    pub name: String,
    /// `[rank, in]` of `lora_A`, `[out, rank]` of `lora_B`.
    pub shape: [usize; 2],
    /// Row by row.
    pub values: Vec<f32>,
}

impl AdapterTensor {
    fn bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn check(&self, rank: usize) -> Result<()> {
        let of_rank = if self.name.ends_with(".lora_A.weight") {
            self.shape[0] == rank
        } else {
            self.name.ends_with(".lora_B.weight") && self.shape[1] == rank
        };
        if of_rank && self.shape[0] * self.shape[1] == self.values.len() {
            return Ok(());
        }
        let what = format!(
            "{} with shape {:?} and {} values is no half of an adapter of rank {rank}",
            self.name,
            self.shape,
            self.values.len()
        );
        Err(PolicyError::input(
            what,
            "name it as PEFT does: …lora_A.weight [rank, in], …lora_B.weight [out, rank]",
        ))
    }
}

/// An adapter and what it belongs to.
#[derive(Clone, Debug)]
pub struct AdapterExport<'a> {
    /// Rows of `A`.
    pub rank: usize,
    /// Scale of the product, before it is divided by the rank.
    pub alpha: f32,
    /// Adapted matrices, such as `q_proj`.
    pub targets: &'a [String],
    /// Hub id or directory of the model it was trained on.
    pub base: &'a str,
    /// Both halves of every adapted matrix.
    pub tensors: &'a [AdapterTensor],
}

impl AdapterExport<'_> {
    fn config(&self) -> Value {
        json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": 0.0,
            "target_modules": self.targets,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "modules_to_save": null,
        })
    }

    fn weights(&self) -> Result<Vec<u8>> {
        let not_written =
            |error| PolicyError::input(format!("the adapter cannot be written: {error}"), "report this");
        let bytes: Vec<Vec<u8>> = self.tensors.iter().map(AdapterTensor::bytes).collect();
        let mut views = Vec::with_capacity(bytes.len());
        for (tensor, bytes) in self.tensors.iter().zip(&bytes) {
            let view = TensorView::new(Dtype::F32, tensor.shape.to_vec(), bytes).map_err(not_written)?;
            views.push((tensor.name.as_str(), view));
        }
        let metadata = Some([("format".to_owned(), "pt".to_owned())].into_iter().collect());
        safetensors::serialize(views, metadata).map_err(not_written)
    }

    fn reads_back(&self, dir: &Path) -> Result<bool> {
        let config = read_limited(&dir.join(CONFIG), WEIGHTS_BYTES_MAX)?;
        let weights = read_limited(&dir.join(WEIGHTS), WEIGHTS_BYTES_MAX)?;
        let Ok(file) = SafeTensors::deserialize(&weights) else { return Ok(false) };
        let same = |tensor: &AdapterTensor| {
            file.tensor(&tensor.name)
                .is_ok_and(|read| read.shape() == tensor.shape && read.data() == tensor.bytes())
        };
        Ok(serde_json::from_slice(&config).is_ok_and(|read: Value| read == self.config())
            && file.len() == self.tensors.len()
            && self.tensors.iter().all(same))
    }
}

/// Writes a directory that PEFT loads over the base model; read back and compared before it takes its name.
///
/// # Errors
/// No tensors, one whose name or shape does not fit the rank; the directory holds something else, or cannot be
/// written.
pub fn save_adapter(out: &Path, export: &AdapterExport<'_>, card: &ExportCard) -> Result<()> {
    if export.tensors.is_empty() || export.rank == 0 {
        return Err(PolicyError::input("an adapter without weights", "export the whole model"));
    }
    export.tensors.iter().try_for_each(|tensor| tensor.check(export.rank))?;
    replace_directory(out, CONFIG, |dir| {
        write(&dir.join(CONFIG), format!("{:#}\n", export.config()).as_bytes())?;
        write(&dir.join(WEIGHTS), &export.weights()?)?;
        write(&dir.join("README.md"), card.readme.as_bytes())?;
        export
            .reads_back(dir)?
            .then_some(())
            .ok_or_else(|| PolicyError::damaged(dir, "reads back differently", "check the disk"))
    })
}
