//! A look at MessagePack before anything is built from it.
//!
//! A decoder that believes a declared length reserves memory for it, and one that follows nesting uses its stack up.
//! Both are settled here in one pass without either: every container must have at least as many bytes left as it
//! declares elements, and nesting ends where the types of the protocol end. Fields that a type does not know are
//! looked at like any other.

use crate::wire::DecodeError;

/// Containers inside containers. The deepest type of the protocol, a settlement, has six.
pub(crate) const DEPTH_MAX: usize = 16;

/// What one head says of the bytes after it.
enum Head {
    /// A value of this many bytes, whose content means nothing here.
    Bytes(usize),
    /// A container of this many values.
    Values(usize),
}

/// Passes over one value and returns what follows it.
///
/// # Errors
/// [`DecodeError::Malformed`] for a value that ends early, is nested too deep, or is of an extension type.
pub(crate) fn value(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    // Values still due in each open container; the first is the value itself.
    let mut due = [0_usize; DEPTH_MAX + 1];
    let mut depth = 0;
    let mut rest = bytes;
    due[0] = 1;
    loop {
        while due[depth] == 0 {
            if depth == 0 {
                return Ok(rest);
            }
            depth -= 1;
        }
        due[depth] -= 1;
        let (head, tail) = head(rest)?;
        match head {
            Head::Bytes(length) => rest = tail.get(length..).ok_or_else(early)?,
            Head::Values(count) => {
                if count > tail.len() {
                    return Err(early());
                }
                rest = tail;
                depth += 1;
                *due.get_mut(depth).ok_or_else(|| malformed("nested too deep"))? = count;
            }
        }
    }
}

fn head(bytes: &[u8]) -> Result<(Head, &[u8]), DecodeError> {
    let (&marker, rest) = bytes.split_first().ok_or_else(early)?;
    let low = |mask: u8| usize::from(marker & mask);
    Ok(match marker {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (Head::Bytes(0), rest),
        0x80..=0x8f => (Head::Values(2 * low(0x0f)), rest),
        0x90..=0x9f => (Head::Values(low(0x0f)), rest),
        0xa0..=0xbf => (Head::Bytes(low(0x1f)), rest),
        0xc4 | 0xd9 => sized::<1>(rest, Head::Bytes)?,
        0xc5 | 0xda => sized::<2>(rest, Head::Bytes)?,
        0xc6 | 0xdb => sized::<4>(rest, Head::Bytes)?,
        0xcc | 0xd0 => (Head::Bytes(1), rest),
        0xcd | 0xd1 => (Head::Bytes(2), rest),
        0xca | 0xce | 0xd2 => (Head::Bytes(4), rest),
        0xcb | 0xcf | 0xd3 => (Head::Bytes(8), rest),
        0xdc => sized::<2>(rest, Head::Values)?,
        0xdd => sized::<4>(rest, Head::Values)?,
        0xde => sized::<2>(rest, pairs)?,
        0xdf => sized::<4>(rest, pairs)?,
        0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => return Err(malformed("an extension type, which no message has")),
    })
}

/// A head with a length of `N` bytes, big endian.
fn sized<const N: usize>(bytes: &[u8], head: fn(usize) -> Head) -> Result<(Head, &[u8]), DecodeError> {
    let (length, rest) = bytes.split_first_chunk::<N>().ok_or_else(early)?;
    let length = length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    Ok((head(usize::try_from(length).unwrap_or(usize::MAX)), rest))
}

fn pairs(count: usize) -> Head {
    Head::Values(count.saturating_mul(2))
}

fn early() -> DecodeError {
    malformed("ends before the lengths that it declares")
}

fn malformed(why: &str) -> DecodeError {
    DecodeError::Malformed(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_head_is_passed_over_with_what_belongs_to_it() {
        let text = |head: &[u8], length: usize| [head, &vec![1; length]].concat();
        for whole in [
            vec![0x7f],
            vec![0xff],
            vec![0xc0],
            text(&[0xa3], 3),
            text(&[0xd9, 40], 40),
            text(&[0xda, 1, 0], 256),
            text(&[0xdb, 0, 0, 0, 2], 2),
            text(&[0xc4, 5], 5),
            text(&[0xc5, 0, 5], 5),
            text(&[0xc6, 0, 0, 0, 5], 5),
            text(&[0xcf], 8),
            text(&[0xd2], 4),
            vec![0x82, 1, 0x90, 2, 0x80],
            text(&[0xdc, 0, 3], 3),
            text(&[0xdd, 0, 0, 0, 3], 3),
            text(&[0xde, 0, 2], 4),
            text(&[0xdf, 0, 0, 0, 2], 4),
        ] {
            let followed = [&whole[..], &[0xc0, 0xc0]].concat();
            assert_eq!(value(&followed).map(<[u8]>::len), Ok(2), "{whole:x?}");
            for end in 0..whole.len() {
                assert!(value(&whole[..end]).is_err(), "{end} bytes of {whole:x?}");
            }
        }
    }

    #[test]
    fn nesting_ends_and_extension_types_are_refused() {
        let nested = |depth: usize| [vec![0x91; depth], vec![0]].concat();
        assert_eq!(value(&nested(DEPTH_MAX)), Ok(&[][..]));
        assert!(value(&nested(DEPTH_MAX + 1)).is_err());
        for marker in [0xc1, 0xc7, 0xc8, 0xc9, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8] {
            assert!(value(&[&[marker][..], &[0; 64]].concat()).is_err(), "{marker:x}");
        }
    }
}
