//! A peer's state folder: its key, and the lock that keeps a second process from being the same peer.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Where data of this user goes: `murmur` below `XDG_DATA_HOME` or `~/.local/share`; `None` if the environment names
/// neither it nor a home.
pub(crate) fn data_dir() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = var("XDG_DATA_HOME").or_else(|| Some(var("HOME")?.join(".local/share")));
    Some(data?.join("murmur"))
}

/// Where a peer's key is.
pub(crate) fn identity_path(state: &Path) -> PathBuf {
    state.join("identity.key")
}

/// Holds a state folder for this process. Two processes with one key would sign two things for one slot, which
/// convicts the peer before the whole swarm. The system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct StateLock {
    _file: File,
}

impl StateLock {
    /// Makes the folder if need be and takes it; `None` if another process has it.
    ///
    /// # Errors
    /// A folder that cannot be made or written.
    pub(crate) fn try_take(state: &Path) -> anyhow::Result<Option<Self>> {
        fs::create_dir_all(state).with_context(|| format!("cannot make {}", state.display()))?;
        let path = state.join("lock");
        let cannot = || format!("cannot lock {}", path.display());
        let file = OpenOptions::new().create(true).append(true).open(&path).with_context(cannot)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).with_context(cannot),
        }
    }

    /// Makes the folder if need be and takes it.
    ///
    /// # Errors
    /// As [`try_take`](Self::try_take), and a folder that another process has.
    pub(crate) fn take(state: &Path) -> anyhow::Result<Self> {
        let Some(lock) = Self::try_take(state)? else {
            bail!(
                "{} belongs to a peer that runs already\nhint: `murmur watch {}` shows it; for a second peer choose another `state` under [peer]",
                state.display(),
                state.join("run").display()
            );
        };
        Ok(lock)
    }
}
