//! What can go wrong, in words that name the file and the next thing to do.

use std::path::{Path, PathBuf};

/// Failure of an operation on a policy, its files or its training.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The operating system refused a file operation.
    #[error("cannot {op} {}: {source}\nhint: {hint}", path.display())]
    Io {
        /// What was attempted ("read", "write", "rename" …).
        op: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the user can do next.
        hint: &'static str,
        /// The system's own reason.
        source: std::io::Error,
    },
    /// A model directory or checkpoint is incomplete, torn or inconsistent.
    #[error("{}: {what}\nhint: {hint}", path.display())]
    Damaged {
        /// The offending file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What the user can do next.
        hint: &'static str,
    },
    /// The destination holds something this crate did not write.
    #[error("{} exists and holds other files\nhint: choose another directory or move it away", path.display())]
    Occupied {
        /// The destination.
        path: PathBuf,
    },
    /// No embedded base has this name.
    #[error("no embedded base model is called \"{name}\"\nhint: known names: {known}")]
    UnknownBase {
        /// The name asked for.
        name: String,
        /// The names there are, separated by commas.
        known: String,
    },
    /// The caller passed something that cannot be computed on.
    #[error("{what}\nhint: {hint}")]
    Input {
        /// What is wrong.
        what: String,
        /// What the caller can do next.
        hint: &'static str,
    },
    /// A run needs more memory than there is.
    #[error("{what}\nhint: {hint}")]
    Memory {
        /// What is needed and what there is.
        what: String,
        /// Settings that would fit.
        hint: String,
    },
    /// The hub did not give or take a model.
    #[error("{id}: {what}\nhint: {hint}")]
    Hub {
        /// The model on the hub.
        id: String,
        /// What went wrong.
        what: String,
        /// What the user can do next.
        hint: String,
    },
    /// The tensor library failed: on a GPU, mostly for want of memory.
    #[error(
        "tensor operation failed: {0}\nhint: where the device has too little memory, set gradient_checkpointing, lower micro_batch_tokens, or train an adapter"
    )]
    Tensor(#[from] candle_core::Error),
}

/// Result of this crate's operations.
pub type Result<T> = std::result::Result<T, PolicyError>;

impl PolicyError {
    pub(crate) fn io(
        op: &'static str,
        path: &Path,
        hint: &'static str,
    ) -> impl FnOnce(std::io::Error) -> PolicyError {
        let path = path.to_path_buf();
        move |source| PolicyError::Io { op, path, hint, source }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>, hint: &'static str) -> PolicyError {
        PolicyError::Damaged { path: path.to_path_buf(), what: what.into(), hint }
    }

    pub(crate) fn input(what: impl Into<String>, hint: &'static str) -> PolicyError {
        PolicyError::Input { what: what.into(), hint }
    }
}
