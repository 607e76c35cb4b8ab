//! A GGUF file read back: the same bytes, and a head in which another implementation finds every tensor.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};

use candle_core::quantized::gguf_file::Content;

use super::model::Model;

/// A writer that checks instead of writing.
struct Comparison<R> {
    reader: R,
    read: Vec<u8>,
}

impl<R: Read> Write for Comparison<R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.read.resize(bytes.len(), 0);
        self.reader.read_exact(&mut self.read)?;
        if self.read != bytes {
            return Err(io::Error::other("it reads back differently"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compares a file with the model it was written from.
pub(super) fn compare(file: &mut File, model: &Model<'_>) -> io::Result<()> {
    file.rewind()?;
    let mut comparison = Comparison { reader: BufReader::new(&*file), read: Vec::new() };
    model.write(&mut comparison)?;
    if comparison.reader.read(&mut [0])? != 0 {
        return Err(io::Error::other("it is longer than what was written"));
    }
    file.rewind()?;
    let content = Content::read(&mut BufReader::new(file)).map_err(io::Error::other)?;
    let found = model.tensors().all(|tensor| {
        let info = content.tensor_infos.get(&tensor.name);
        info.is_some_and(|info| info.shape.dims() == tensor.shape)
    });
    let counted =
        content.tensor_infos.len() == model.tensors().len() && content.metadata.len() == model.metadata.len();
    if !(found && counted) {
        return Err(io::Error::other("its head names other tensors or keys"));
    }
    Ok(())
}
