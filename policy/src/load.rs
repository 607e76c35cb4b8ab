//! Weights from safetensors files, whole or in shards, piece by piece.
//!
//! Headers are read first, within limits, and compared with the config; only then is memory taken for the
//! weights, and each tensor is copied through a small buffer. Files are not mapped: one that changes while it is
//! read gives an error here, where a map would give a crash.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::slice::HalfFloatSliceExt;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::{PolicyError, Result};
use crate::store::Precision;
use crate::weights::Parameter;

/// What to do about a file that is not as it should be.
pub(crate) const AGAIN: &str = "copy the model directory again, or choose another one";
const INCOMPLETE: &str = "check that the directory is a complete Hugging Face model";
/// Bytes of `config.json` and other small files.
pub(crate) const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of a file that a model need not have; the published ones have at most 60 KiB.
const OPTIONAL_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Bytes of `tokenizer.json`; those of today's largest vocabularies are half as long.
pub(crate) const TOKENIZER_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Bytes of `model.safetensors.index.json`.
pub(crate) const INDEX_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes of the headers of all weight files together: about 60,000 tensors.
const HEADER_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Files that the weights of a model are split into.
pub(crate) const SHARDS_MAX: usize = 256;
/// Bytes that are read at once, unless a few rows are more.
const PIECE_BYTES: usize = 1024 * 1024;
/// Rows that are set together; the packed order of matrices interleaves this many.
const ROWS_TOGETHER: usize = 32;

/// The file that weights are in when there is one.
pub(crate) const SINGLE: &str = "model.safetensors";
/// The file that says which shard has which tensor.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// Opens a file of a known kind and length: a pipe would block, a device never end.
fn open_regular(path: &Path) -> Result<(File, u64)> {
    let kind = fs::metadata(path).map_err(PolicyError::io("read", path, INCOMPLETE))?;
    if !kind.is_file() {
        return Err(PolicyError::damaged(path, "not a regular file", AGAIN));
    }
    let file = File::open(path).map_err(PolicyError::io("read", path, INCOMPLETE))?;
    let bytes = file.metadata().map_err(PolicyError::io("read", path, INCOMPLETE))?.len();
    Ok((file, bytes))
}

/// The text of a file of at most `max` bytes.
pub(crate) fn read_text(path: &Path, max: u64) -> Result<String> {
    let (file, bytes) = open_regular(path)?;
    let mut text = Vec::new();
    if bytes <= max {
        file.take(max + 1).read_to_end(&mut text).map_err(PolicyError::io("read", path, INCOMPLETE))?;
    }
    if bytes.max(text.len() as u64) > max {
        return Err(PolicyError::damaged(path, format!("{bytes} bytes where at most {max} are read"), AGAIN));
    }
    String::from_utf8(text).map_err(|_| PolicyError::damaged(path, "not UTF-8 text", AGAIN))
}

/// The text of a small file; `None` if there is no such file.
pub(crate) fn read_if_present(path: &Path) -> Result<Option<String>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        _ => read_text(path, OPTIONAL_BYTES_MAX).map(Some),
    }
}

/// The names of the shards that an index lists.
pub(crate) fn shard_names(index: &str) -> std::result::Result<Vec<String>, String> {
    let index: Index = serde_json::from_str(index).map_err(|error| format!("not an index: {error}"))?;
    let mut names: Vec<String> = index.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    // The index may come from a stranger: a name with a path would read any file.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    for name in &names {
        if !(name.ends_with(".safetensors") && name.chars().all(plain) && !name.starts_with('.')) {
            let name: String = name.chars().take(60).collect();
            return Err(format!("{name:?} is no plain name of a safetensors file"));
        }
    }
    if names.is_empty() || names.len() > SHARDS_MAX {
        return Err(format!("names {} files, must be 1..={SHARDS_MAX}", names.len()));
    }
    Ok(names)
}

#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

/// The header of a safetensors file, without its free text.
struct Header(Vec<(String, TensorInfo)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Tensors;
        impl<'de> Visitor<'de> for Tensors {
            type Value = Header;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Header, A::Error> {
                let mut tensors: HashMap<String, TensorInfo> = HashMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else if tensors.insert(name.clone(), map.next_value()?).is_some() {
                        return Err(A::Error::custom(format!("tensor {name} is there twice")));
                    }
                }
                let mut tensors: Vec<_> = tensors.into_iter().collect();
                tensors.sort_by_key(|(_, info)| info.data_offsets);
                Ok(Header(tensors))
            }
        }
        deserializer.deserialize_map(Tensors)
    }
}

struct Shard<R> {
    path: PathBuf,
    source: R,
    /// Where the values begin.
    data: u64,
}

/// The weight files of a model, their headers read and consistent.
pub(crate) struct WeightFiles<R> {
    shards: Vec<Shard<R>>,
    tensors: HashMap<String, (usize, TensorInfo)>,
    header_bytes: u64,
}

impl WeightFiles<File> {
    /// Those of a model directory: one file, or the shards of an index.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let (single, index) = (dir.join(SINGLE), dir.join(INDEX));
        if single.exists() {
            return Self::open_one(&single);
        }
        if !index.exists() {
            let what = format!("has neither {SINGLE} nor {INDEX}");
            let hint = "weights are read from safetensors only; save_pretrained of transformers writes them";
            return Err(PolicyError::damaged(dir, what, hint));
        }
        let text = read_text(&index, INDEX_BYTES_MAX)?;
        let names = shard_names(&text).map_err(|why| PolicyError::damaged(&index, why, AGAIN))?;
        let mut files = Self::empty();
        for name in names {
            let path = dir.join(name);
            let (source, bytes) = open_regular(&path)?;
            files.add(path, source, bytes)?;
        }
        Ok(files)
    }

    /// A single file.
    pub(crate) fn open_one(path: &Path) -> Result<Self> {
        let (source, bytes) = open_regular(path)?;
        let mut files = Self::empty();
        files.add(path.to_path_buf(), source, bytes)?;
        Ok(files)
    }
}

impl<'a> WeightFiles<Cursor<&'a [u8]>> {
    /// A file that is in memory already.
    pub(crate) fn in_memory(name: &str, bytes: &'a [u8]) -> Result<Self> {
        let mut files = Self::empty();
        files.add(PathBuf::from(name), Cursor::new(bytes), bytes.len() as u64)?;
        Ok(files)
    }
}

impl<R: Read + Seek> WeightFiles<R> {
    fn empty() -> Self {
        Self { shards: Vec::new(), tensors: HashMap::new(), header_bytes: 0 }
    }

    /// Reads a file's header and takes over its tensors.
    fn add(&mut self, path: PathBuf, mut source: R, bytes: u64) -> Result<()> {
        let damaged = |what: String| PolicyError::damaged(&path, what, AGAIN);
        let mut length = [0; 8];
        source
            .read_exact(&mut length)
            .map_err(|_| damaged("not a safetensors file: shorter than its header".into()))?;
        let header_bytes = u64::from_le_bytes(length);
        self.header_bytes = self.header_bytes.saturating_add(header_bytes);
        if self.header_bytes > HEADER_BYTES_MAX {
            let what = format!(
                "not a safetensors file: a header of {header_bytes} bytes where {HEADER_BYTES_MAX} are allowed in all"
            );
            return Err(damaged(what));
        }
        let mut header = vec![0; header_bytes as usize];
        source
            .read_exact(&mut header)
            .map_err(|_| damaged("not a safetensors file: ends within its header".into()))?;
        let header: Header = serde_json::from_slice(&header)
            .map_err(|error| damaged(format!("not a safetensors file: {error}")))?;
        let metadata = Metadata::new(None, header.0.clone()).map_err(|error| {
            damaged(format!("not a safetensors file: its header contradicts itself: {error}"))
        })?;
        let data = 8 + header_bytes;
        let expected = data + metadata.data_len() as u64;
        if bytes != expected {
            return Err(damaged(format!(
                "not a safetensors file: {bytes} bytes where its header says {expected}"
            )));
        }
        let shard = self.shards.len();
        for (name, info) in header.0 {
            if self.tensors.insert(name.clone(), (shard, info)).is_some() {
                return Err(damaged(format!("tensor {name} is in another file too")));
            }
        }
        self.shards.push(Shard { path, source, data });
        Ok(())
    }

    /// The values of every parameter, laid out as the parameters say.
    ///
    /// # Errors
    /// A tensor is missing, unknown, of another shape or type, cut off, or has values that are not finite.
    pub(crate) fn read(mut self, parameters: &[Parameter]) -> Result<Vec<f32>> {
        self.check(parameters)?;
        let mut weights = vec![0.0; parameters.last().map_or(0, |last| last.stored().end)];
        self.fill(parameters, &mut weights)?;
        self.check_tied_head(parameters, &weights)?;
        Ok(weights)
    }

    /// [`Self::read`] in place of other weights, so that they are in memory once. Where it fails, those are partly
    /// replaced.
    pub(crate) fn read_over(mut self, parameters: &[Parameter], weights: &mut [f32]) -> Result<()> {
        self.check(parameters)?;
        self.fill(parameters, weights)
    }

    fn fill(&mut self, parameters: &[Parameter], weights: &mut [f32]) -> Result<()> {
        for parameter in parameters {
            self.pieces(parameter, &mut |first, values| {
                parameter.write_rows(weights, first, values);
                true
            })?;
        }
        Ok(())
    }

    /// Whether the files hold these weights, rounded to this precision.
    pub(crate) fn holds(
        mut self,
        parameters: &[Parameter],
        weights: &[f32],
        precision: Precision,
    ) -> Result<bool> {
        self.check(parameters)?;
        let (mut same, mut own) = (true, Vec::new());
        for parameter in parameters {
            self.pieces(parameter, &mut |first, values| {
                parameter.read_rows(weights, first..first + values.len() / parameter.width(), &mut own);
                same &= own.iter().zip(values).all(|(own, value)| precision.rounded(*own) == *value);
                same
            })?;
        }
        Ok(same)
    }

    /// Compares names, shapes and types with the layout, before memory is taken for the weights.
    fn check(&self, parameters: &[Parameter]) -> Result<()> {
        for parameter in parameters {
            self.check_tensor(parameter)?;
        }
        let known: std::collections::HashSet<&str> =
            parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        // The head of a tied model is compared with the embedding below; old files carry constants.
        let harmless = |name: &str| name == HEAD || name.ends_with(".rotary_emb.inv_freq");
        let mut unknown: Vec<_> = self
            .tensors
            .iter()
            .filter(|(name, _)| !known.contains(name.as_str()) && !harmless(name))
            .collect();
        unknown.sort_by_key(|(name, _)| *name);
        match unknown.first() {
            Some((name, (shard, _))) => {
                let name: String = name.chars().take(120).collect();
                let what = format!("tensor {name} belongs to no part of this model");
                Err(PolicyError::damaged(&self.shards[*shard].path, what, AGAIN))
            }
            None => Ok(()),
        }
    }

    fn check_tensor(&self, parameter: &Parameter) -> Result<()> {
        let name = &parameter.name;
        let first = self.shards.first().map_or(Path::new(SINGLE), |shard| &shard.path);
        let (shard, info) = self
            .tensors
            .get(name)
            .ok_or_else(|| PolicyError::damaged(first, format!("tensor {name} is missing"), AGAIN))?;
        let damaged = |what: String| PolicyError::damaged(&self.shards[*shard].path, what, AGAIN);
        if info.shape != parameter.shape {
            let shape: Vec<usize> = info.shape.iter().copied().take(8).collect();
            let what = format!("tensor {name} has shape {shape:?}, the config needs {:?}", parameter.shape);
            return Err(damaged(what));
        }
        match info.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(()),
            other => Err(damaged(format!("tensor {name} is of type {other}; f32, f16 and bf16 are read"))),
        }
    }

    /// Calls `take` with the first row and the values of each piece of a checked tensor, until it says no.
    fn pieces(&mut self, parameter: &Parameter, take: &mut dyn FnMut(usize, &[f32]) -> bool) -> Result<()> {
        let Some((shard, info)) = self.tensors.get(&parameter.name) else { return Ok(()) };
        let Shard { path, source, data } = &mut self.shards[*shard];
        let unreadable = |error| PolicyError::io("read", path, AGAIN)(error);
        source.seek(SeekFrom::Start(*data + info.data_offsets.0 as u64)).map_err(unreadable)?;
        let value_bytes = if info.dtype == Dtype::F32 { 4 } else { 2 };
        let row_bytes = parameter.width() * value_bytes;
        let rows = parameter.rows();
        let step = (PIECE_BYTES / row_bytes / ROWS_TOGETHER).max(1) * ROWS_TOGETHER;
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        for first in (0..rows).step_by(step) {
            bytes.resize(step.min(rows - first) * row_bytes, 0);
            source.read_exact(&mut bytes).map_err(unreadable)?;
            decode(info.dtype, &bytes, &mut values);
            if !values.iter().all(|value| value.is_finite()) {
                let what = format!("tensor {} has values that are not finite", parameter.name);
                return Err(PolicyError::damaged(path, what, AGAIN));
            }
            if !take(first, &values) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A tied model may store its output matrix too, but not another one.
    fn check_tied_head(&mut self, parameters: &[Parameter], weights: &[f32]) -> Result<()> {
        let named = |name: &str| parameters.iter().find(|parameter| parameter.name == name);
        let (None, Some(embedding), Some((shard, _))) =
            (named(HEAD), named(EMBEDDING), self.tensors.get(HEAD))
        else {
            return Ok(());
        };
        let path = self.shards[*shard].path.clone();
        let mut head = embedding.clone();
        head.name = HEAD.into();
        self.check_tensor(&head)?;
        let (mut same, mut own) = (true, Vec::new());
        self.pieces(&head, &mut |first, values| {
            embedding.read_rows(weights, first..first + values.len() / head.width(), &mut own);
            same = own == values;
            same
        })?;
        let what = format!("{HEAD} differs from {EMBEDDING}, yet the config ties them");
        let hint =
            "set tie_word_embeddings to false in config.json if the model has an output matrix of its own";
        same.then_some(()).ok_or_else(|| PolicyError::damaged(&path, what, hint))
    }
}

/// Little-endian values of one of the three types as f32.
fn decode(dtype: Dtype, bytes: &[u8], values: &mut Vec<f32>) {
    let words = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match dtype {
        Dtype::F16 => {
            let halves: Vec<half::f16> = words().map(half::f16::from_bits).collect();
            values.resize(halves.len(), 0.0);
            halves.convert_to_f32_slice(values);
        }
        Dtype::BF16 => {
            values.clear();
            values.extend(words().map(|word| f32::from_bits(u32::from(word) << 16)));
        }
        _ => {
            values.clear();
            values.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        }
    }
}
