//! Writing whole or not at all: files under a temporary name, read back by the caller, then renamed.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::error::{PolicyError, Result};
use crate::weights::Parameter;

/// Values that are written at once.
const WRITE_VALUES: usize = 256 * 1024;
const NO_ROOM: &str = "check free space and permissions";

/// How a safetensors file stores weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As they are trained.
    #[default]
    F32,
    /// Half the size; up to 65,504.
    F16,
    /// Half the size; the range of f32 with 8 bits of precision.
    Bf16,
}

impl Precision {
    /// Its short name, such as `bf16`.
    pub fn name(self) -> &'static str {
        ["f32", "f16", "bf16"][self as usize]
    }

    /// Its name in `config.json`.
    pub(crate) fn torch_name(self) -> &'static str {
        ["float32", "float16", "bfloat16"][self as usize]
    }

    fn safetensors_name(self) -> &'static str {
        ["F32", "F16", "BF16"][self as usize]
    }

    fn value_bytes(self) -> usize {
        [4, 2, 2][self as usize]
    }

    /// What is left of a value once it is stored.
    pub(crate) fn rounded(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => half::f16::from_f32(value).to_f32(),
            Self::Bf16 => half::bf16::from_f32(value).to_f32(),
        }
    }

    fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect(),
            Self::Bf16 => {
                values.iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect()
            }
        }
    }
}

/// Where in a safetensors file the values begin: after the length of its header and the header.
///
/// # Errors
/// It cannot be read.
pub fn values_begin(path: &Path) -> std::io::Result<u64> {
    let mut length = [0; 8];
    File::open(path)?.read_exact(&mut length)?;
    Ok(u64::from_le_bytes(length).saturating_add(8))
}

/// The head of a safetensors file: the length of its header, then the header.
pub(crate) fn head(parameters: &[Parameter], precision: Precision) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut end = 0;
    for parameter in parameters {
        let start = end;
        end += parameter.len() * precision.value_bytes();
        let dtype = precision.safetensors_name();
        let info = json!({ "dtype": dtype, "shape": parameter.shape, "data_offsets": [start, end] });
        header.insert(parameter.name.clone(), info);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // The format aligns the values.
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header].concat()
}

/// Bytes of the file that [`write_weights`] makes.
pub(crate) fn weights_bytes(parameters: &[Parameter], precision: Precision) -> u64 {
    let values: usize = parameters.iter().map(Parameter::len).sum();
    (head(parameters, precision).len() + values * precision.value_bytes()) as u64
}

/// Writes a safetensors file, tensor by tensor, so that the weights are in memory once.
pub(crate) fn write_weights(
    path: &Path,
    parameters: &[Parameter],
    weights: &[f32],
    precision: Precision,
) -> Result<()> {
    let failed = || PolicyError::io("write", path, NO_ROOM);
    let mut file = BufWriter::new(File::create(path).map_err(failed())?);
    file.write_all(&head(parameters, precision)).map_err(failed())?;
    for parameter in parameters {
        let step = (WRITE_VALUES / parameter.width()).max(1);
        let mut values = Vec::new();
        for first in (0..parameter.rows()).step_by(step) {
            let rows = first..parameter.rows().min(first + step);
            parameter.read_rows(weights, rows, &mut values);
            if !values.iter().all(|value| precision.rounded(*value).is_finite()) {
                let what =
                    format!("tensor {} has values beyond the range of {}", parameter.name, precision.name());
                return Err(PolicyError::input(what, "store it as bf16 or f32"));
            }
            file.write_all(&precision.encode(&values)).map_err(failed())?;
        }
    }
    let file = file.into_inner().map_err(|error| failed()(error.into_error()))?;
    file.sync_all().map_err(failed())
}

pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(PolicyError::io("write", path, NO_ROOM))?;
    file.write_all(bytes).map_err(PolicyError::io("write", path, NO_ROOM))?;
    file.sync_all().map_err(PolicyError::io("write", path, NO_ROOM))
}

/// Whether a directory holds nothing but plain files of these names.
pub(crate) fn holds_only(dir: &Path, names: &[&str]) -> bool {
    let known = |entry: fs::DirEntry| {
        entry.file_type().is_ok_and(|kind| kind.is_file())
            && entry.file_name().to_str().is_some_and(|name| names.contains(&name))
    };
    dir.read_dir().is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(known)))
}

/// Fills a directory beside `out` and puts it in its place once it is whole. What is there already is only
/// replaced where it is empty or `ours` says so.
pub(crate) fn replace_directory(
    out: &Path,
    ours: impl FnOnce(&Path) -> bool,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let beside = |suffix: &str| -> PathBuf {
        let mut name = out.file_name().unwrap_or_default().to_os_string();
        name.push(suffix);
        out.with_file_name(name)
    };
    if out.exists() && !holds_only(out, &[]) && !ours(out) {
        return Err(PolicyError::Occupied { path: out.to_path_buf() });
    }
    let (new, old) = (beside(".new.tmp"), beside(".old.tmp"));
    for leftover in [&new, &old] {
        if leftover.exists() && (*leftover == new || out.exists()) {
            fs::remove_dir_all(leftover).map_err(PolicyError::io("remove", leftover, NO_ROOM))?;
        }
    }
    fs::create_dir_all(&new).map_err(PolicyError::io("create", &new, NO_ROOM))?;
    if let Err(error) = fill(&new) {
        // Best effort: the reason why it was not filled says more than why it was not removed.
        let _ = fs::remove_dir_all(&new);
        return Err(error);
    }
    if out.exists() {
        fs::rename(out, &old).map_err(PolicyError::io("rename", out, NO_ROOM))?;
    }
    fs::rename(&new, out).map_err(PolicyError::io("rename", &new, NO_ROOM))?;
    if let Some(parent) = out.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent)
            .and_then(|dir| dir.sync_all())
            .map_err(PolicyError::io("sync", parent, NO_ROOM))?;
    }
    if old.exists() {
        fs::remove_dir_all(&old).map_err(PolicyError::io("remove", &old, NO_ROOM))?;
    }
    Ok(())
}
