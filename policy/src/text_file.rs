//! Small text files of a model directory that may be absent.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::error::{PolicyError, Result};

/// Bytes of such a file; the published ones have at most 60 KiB.
const BYTES_MAX: u64 = 4 * 1024 * 1024;
const HINT: &str = "copy the model directory again, or choose another one";

/// The file's text, or `None` if there is no such file.
pub(crate) fn read_if_present(path: &Path) -> Result<Option<String>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(PolicyError::io("read", path, HINT))?,
    };
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(PolicyError::io("read", path, HINT))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(PolicyError::damaged(path, format!("more than {BYTES_MAX} bytes"), HINT));
    }
    let text = String::from_utf8(bytes).map_err(|_| PolicyError::damaged(path, "not UTF-8 text", HINT))?;
    Ok(Some(text))
}
