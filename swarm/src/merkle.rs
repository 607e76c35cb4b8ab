//! A Merkle tree over the answers of a round: one leaf a prompt, so that a peer commits to all its
//! answers with one hash and reveals them one message at a time.
//!
//! Leaves and inner nodes are hashed under different domains, and an odd node moves up unchanged,
//! so no node can pass for another (RFC 6962 has the same shape).

use crate::wire::Hash;

const LEAF: &str = "murmur v1 merkle leaf";
const NODE: &str = "murmur v1 merkle node";

/// Hash of one leaf.
pub fn leaf(bytes: &[u8]) -> Hash {
    Hash::of(LEAF, &[bytes])
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Hash::of(NODE, &[&left.0, &right.0])
}

fn level_above(level: &[Hash]) -> Vec<Hash> {
    level.chunks(2).map(|pair| if let [l, r] = pair { node(l, r) } else { pair[0] }).collect()
}

/// Root over `leaves` in order; the zero hash when there are none.
pub fn root(leaves: &[Hash]) -> Hash {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = level_above(&level);
    }
    level.first().copied().unwrap_or(Hash([0; 32]))
}

/// Siblings of leaf `index`, from the leaves up. Empty when `index` is not a leaf.
pub fn proof(leaves: &[Hash], mut index: usize) -> Vec<Hash> {
    let mut level = leaves.to_vec();
    let mut siblings = Vec::new();
    while level.len() > 1 && index < level.len() {
        siblings.extend(level.get(index ^ 1));
        level = level_above(&level);
        index /= 2;
    }
    siblings
}

/// The root that `leaf` at `index` of `count` leaves leads to, or `None` when the number of
/// siblings does not fit such a tree.
pub fn climb(leaf: Hash, mut index: usize, count: usize, siblings: &[Hash]) -> Option<Hash> {
    if index >= count {
        return None;
    }
    let (mut at, mut width, mut rest) = (leaf, count, siblings);
    while width > 1 {
        if index ^ 1 < width {
            let (sibling, tail) = rest.split_first()?;
            at = if index & 1 == 0 { node(&at, sibling) } else { node(sibling, &at) };
            rest = tail;
        }
        index /= 2;
        width = width.div_ceil(2);
    }
    rest.is_empty().then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_of_every_size_proves_itself_and_nothing_else() {
        for count in 1..20usize {
            let leaves: Vec<Hash> = (0..count).map(|i| leaf(&[i as u8])).collect();
            let root = root(&leaves);
            for (i, &own) in leaves.iter().enumerate() {
                let proof = proof(&leaves, i);
                assert_eq!(climb(own, i, count, &proof), Some(root), "{i} of {count}");
                assert_ne!(climb(leaf(b"other"), i, count, &proof), Some(root));
                assert!(climb(own, i, count, &[&proof[..], &[root]].concat()).is_none(), "too long");
                if !proof.is_empty() {
                    assert!(climb(own, i, count, &proof[1..]).is_none(), "too short");
                }
            }
            assert!(climb(leaves[0], count, count, &[]).is_none());
        }
    }
}
