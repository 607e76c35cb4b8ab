//! A peer's ed25519 key: who it is, and the only secret it has.
//!
//! The key file is created exclusively and readable by its owner alone; a file that others may read
//! is refused rather than used.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use judge::PeerKey;

use crate::memo;

/// First line of a key file.
const HEADER: &str = "murmur ed25519 key v1";
/// Bytes of a key file: header, 64 hexadecimal digits, two line ends.
const FILE_BYTES_MAX: u64 = 128;

/// A signing key. `Debug` shows the public part only.
#[derive(Clone)]
pub struct Identity {
    key: SigningKey,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("cannot use key file {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file must not be used as it is.
    #[error("key file {path} {why}; hint: {hint}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
        /// What to do.
        hint: String,
    },
    /// The system has no randomness to give.
    #[error("the system gives no randomness: {0}")]
    Entropy(String),
}

/// Thirty-two bytes of the system's randomness.
///
/// # Errors
/// [`IdentityError::Entropy`] where the system has none.
pub fn entropy() -> Result<[u8; 32], IdentityError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| IdentityError::Entropy(error.to_string()))?;
    Ok(bytes)
}

impl Identity {
    /// A new key from the system's randomness.
    ///
    /// # Errors
    /// [`IdentityError::Entropy`].
    pub fn generate() -> Result<Self, IdentityError> {
        entropy().map(Self::from_seed)
    }

    /// The key of a seed. Whoever knows the seed is this peer.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(&seed) }
    }

    /// The seed, for the transport's own key type.
    #[cfg(feature = "net")]
    pub(crate) fn seed(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// Generates a key and stores it in a new file with mode 0600.
    ///
    /// # Errors
    /// The file exists, or cannot be written.
    pub fn create(path: &Path) -> Result<Self, IdentityError> {
        let identity = Self::generate()?;
        let io = |source| IdentityError::Io { path: path.to_path_buf(), source };
        // Written aside: a peer killed meanwhile would find half a key.
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".{}.tmp", std::process::id()));
        let aside = PathBuf::from(aside);
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&aside).map_err(io)?;
        let digits: String = identity.key.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        file.write_all(format!("{HEADER}\n{digits}\n").as_bytes()).map_err(io)?;
        file.sync_all().map_err(io)?;
        // Unlike a new name, a second one never replaces a key that is there.
        let named = fs::hard_link(&aside, path).map_err(io);
        fs::remove_file(&aside).map_err(io)?;
        named?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        Ok(identity)
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// Not a regular file, readable by others, of another owner, or not a key file.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let io = |source| IdentityError::Io { path: path.to_path_buf(), source };
        let refused = |why, hint: String| IdentityError::Refused { path: path.to_path_buf(), why, hint };
        // `symlink_metadata` so that a link planted by somebody else is not followed.
        let entry = fs::symlink_metadata(path).map_err(io)?;
        if !entry.is_file() {
            return Err(refused(
                "is not a regular file",
                "name the key file itself, not a link or folder".into(),
            ));
        }
        let file = File::open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        if meta.mode() & 0o077 != 0 {
            return Err(refused("can be read by others", format!("chmod 600 {}", path.display())));
        }
        if meta.uid() != nix::unistd::geteuid().as_raw() {
            return Err(refused("belongs to another user", "use a key that you own".into()));
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(io)?;
        let digits = text.strip_prefix(HEADER).map(str::trim).unwrap_or_default();
        let seed = crate::manifest::parse_key(digits);
        let restore = || "restore it from a copy, or move it away to get a new identity".to_string();
        seed.map(|seed| Self::from_seed(seed.0))
            .ok_or_else(|| refused("is damaged or not a key file", restore()))
    }

    /// Reads the key file, or creates it.
    ///
    /// # Errors
    /// As [`Self::load`] and [`Self::create`].
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        match Self::load(path) {
            Err(IdentityError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Self::create(path)
            }
            other => other,
        }
    }

    /// The public key: the peer's name to others.
    pub fn public(&self) -> PeerKey {
        PeerKey(self.key.verifying_key().to_bytes())
    }

    /// Signs `bytes` under a domain, so that a signature given for one purpose serves no other.
    pub fn sign(&self, domain: &[u8], bytes: &[u8]) -> [u8; 64] {
        let message = under(domain, bytes);
        let signature = self.key.sign(&message).to_bytes();
        memo::signed(|| self.public().0, &message, &signature);
        signature
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public())
    }
}

/// Whether `signature` is `peer`'s over `bytes` under `domain` (strict: one valid form only).
pub fn verify(peer: &PeerKey, domain: &[u8], bytes: &[u8], signature: &[u8; 64]) -> bool {
    let message = under(domain, bytes);
    memo::recall(&peer.0, &message, signature, || {
        VerifyingKey::from_bytes(&peer.0)
            .is_ok_and(|key| key.verify_strict(&message, &Signature::from_bytes(signature)).is_ok())
    })
}

fn under(domain: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(1 + domain.len() + bytes.len());
    message.push(domain.len() as u8);
    message.extend_from_slice(domain);
    message.extend_from_slice(bytes);
    message
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_signature_serves_one_author_one_domain_one_text() {
        let identity = Identity::from_seed([1; 32]);
        let peer = identity.public();
        let signature = identity.sign(b"a", b"text");
        assert!(verify(&peer, b"a", b"text", &signature));
        assert!(!verify(&peer, b"b", b"text", &signature));
        assert!(!verify(&peer, b"a", b"texT", &signature));
        assert!(!verify(&Identity::from_seed([2; 32]).public(), b"a", b"text", &signature));
        assert!(!verify(&PeerKey([0xff; 32]), b"a", b"text", &signature), "not a key at all");
        assert!(!format!("{identity:?}").contains("0101"), "the secret stays out of logs");
    }

    #[test]
    fn key_files_are_private_and_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let made = Identity::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Identity::load_or_create(&path).unwrap().public(), made.public());
        assert!(Identity::create(&path).is_err(), "an existing key is never overwritten");
    }

    #[test]
    fn unsafe_or_damaged_key_files_are_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        Identity::create(&path).unwrap();
        let text = |path: &Path| Identity::load(path).unwrap_err().to_string();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(text(&path).contains("chmod 600"), "{}", text(&path));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(text(&link).contains("not a regular file"));
        assert!(text(folder.path()).contains("not a regular file"));
        fs::write(&path, "murmur ed25519 key v1\nabc\n").unwrap();
        assert!(text(&path).contains("damaged"));
    }
}
