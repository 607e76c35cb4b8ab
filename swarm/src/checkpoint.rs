//! A checkpoint: a final certificate that an operator trusts, so that a newcomer verifies from there and not from the
//! genesis.
//!
//! It names a view, to ask for, and the hash of the statement, to check. What is before it is believed for its hash;
//! what is after it is verified like everything else. It protects a newcomer from a history that old members made up
//! later: their keys may have leaked long after they mattered.

use std::fmt;
use std::str::FromStr;

use crate::manifest::parse_key;
use crate::wire::Hash;

/// A certificate to verify from, written `VIEW:HASH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// View of the certificate.
    pub view: u32,
    /// Hash of its statement.
    pub statement: Hash,
}

/// A text that is no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a checkpoint is a view, a colon and the 64 hexadecimal digits of a statement's hash")]
pub struct NoCheckpoint;

impl FromStr for Checkpoint {
    type Err = NoCheckpoint;

    fn from_str(text: &str) -> Result<Self, NoCheckpoint> {
        let (view, hash) = text.trim().split_once(':').ok_or(NoCheckpoint)?;
        // Written like a key.
        let statement = parse_key(hash).map(|key| Hash(key.0)).ok_or(NoCheckpoint)?;
        Ok(Self { view: view.parse().map_err(|_| NoCheckpoint)?, statement })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.view, self.statement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_written_as_they_are_read() {
        let checkpoint = Checkpoint { view: 17, statement: Hash([0xab; 32]) };
        assert_eq!(checkpoint.to_string().parse(), Ok(checkpoint));
        let good = "ab".repeat(32);
        for text in [
            "",
            "17",
            &good,
            &format!("-1:{good}"),
            &format!("17:{good}0"),
            &format!("17:{}", "é".repeat(32)),
            &format!("17:+{}", &good[1..]),
        ] {
            assert_eq!(text.parse::<Checkpoint>(), Err(NoCheckpoint), "{text}");
        }
    }
}
