//! Requests and responses as raw bytes: a length in four bytes, big-endian, then as many bytes, then the end.
//!
//! The length is checked before anything is allocated, memory grows only with what arrives, and bytes after the
//! announced ones are an error. What the bytes mean is decided elsewhere.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response;

/// Reads and writes frames up to a limit, one for requests and one for responses.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawCodec {
    /// Largest request.
    pub(super) request_bytes_max: usize,
    /// Largest response.
    pub(super) response_bytes_max: usize,
    /// A pause after every kilobyte of a response.
    #[cfg(test)]
    pub(super) drip: Option<std::time::Duration>,
}

fn too_large(bytes: usize, max: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{bytes} bytes, but at most {max} are allowed"))
}

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T, max: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length);
    if length as usize > max {
        return Err(too_large(length as usize, max));
    }
    let mut bytes = Vec::new();
    (&mut *io).take(u64::from(length)).read_to_end(&mut bytes).await?;
    if bytes.len() != length as usize {
        let got = bytes.len();
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{got} of {length} bytes")));
    }
    match io.read(&mut [0]).await? {
        0 => Ok(bytes),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "bytes after the end")),
    }
}

async fn write<T: AsyncWrite + Unpin + Send>(io: &mut T, bytes: &[u8], max: usize) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length as usize <= max);
    let length = length.ok_or_else(|| too_large(bytes.len(), max))?;
    io.write_all(&length.to_be_bytes()).await?;
    io.write_all(bytes).await?;
    io.flush().await
}

#[cfg(test)]
async fn drip<T: AsyncWrite + Unpin + Send>(
    io: &mut T,
    bytes: &[u8],
    pause: std::time::Duration,
) -> io::Result<()> {
    io.write_all(&(bytes.len() as u32).to_be_bytes()).await?;
    for drop in bytes.chunks(1024) {
        io.write_all(drop).await?;
        io.flush().await?;
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

impl request_response::Codec for RawCodec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.request_bytes_max).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.response_bytes_max).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &bytes, self.request_bytes_max).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        #[cfg(test)]
        if let Some(pause) = self.drip {
            return drip(io, &bytes, pause).await;
        }
        write(io, &bytes, self.response_bytes_max).await
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::io::Cursor;

    use super::*;

    const MAX: usize = 1000;

    fn decode(bytes: &[u8]) -> Result<Vec<u8>, String> {
        block_on(read(&mut Cursor::new(bytes), MAX)).map_err(|error| error.to_string())
    }

    #[test]
    fn frames_come_back_and_everything_else_is_an_error() {
        for length in [0, 1, 999, 1000] {
            let bytes = vec![7; length];
            let mut frame = Vec::new();
            block_on(write(&mut frame, &bytes, MAX)).unwrap();
            assert_eq!(decode(&frame).unwrap(), bytes);
            assert!(decode(&[&frame[..], b"x"].concat()).unwrap_err().contains("after the end"));
            for cut in 0..frame.len() {
                assert!(decode(&frame[..cut]).is_err(), "cut at {cut}");
            }
        }
        assert!(decode(&[0, 0, 3, 0xe9, 1]).unwrap_err().contains("1001 bytes, but at most 1000"));
        assert!(decode(&[0xff; 64]).unwrap_err().contains("at most"), "nothing is allocated for it");
        assert!(block_on(write(&mut Vec::new(), &[0; 1001], MAX)).is_err());
    }
}
