//! How a server cheats, in tests.

use std::io;
use std::time::Duration;

use futures::AsyncWriteExt;
use libp2p::swarm::Stream;

/// What it does instead of serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vice {
    /// Every chunk has a wrong byte.
    Lies,
    /// It declares that so many bytes come.
    Declares(u32),
    /// A kilobyte, a pause, and so on.
    Drips(Duration),
}

/// What is sent in place of a part.
pub(super) async fn spoil(vice: Option<Vice>, stream: &mut Stream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    match vice {
        None => {}
        Some(Vice::Lies) => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        Some(Vice::Declares(len)) => {
            stream.write_all(&len.to_be_bytes()).await?;
            stream.flush().await?;
        }
        Some(Vice::Drips(pause)) => {
            stream.write_all(&(bytes.len() as u32).to_be_bytes()).await?;
            for drop in bytes.chunks(1024) {
                stream.write_all(drop).await?;
                stream.flush().await?;
                tokio::time::sleep(pause).await;
            }
        }
    }
    Ok(bytes)
}
