//! Models of the Hugging Face hub: named `owner/name` or `owner/name@revision`, downloaded once, used from the
//! cache afterwards.
//!
//! The cache is the one of Hugging Face's own tools, in both directions. Every file is fetched at one commit, is
//! limited in size, can be resumed, and takes its name once it is whole. What comes from the hub is checked like
//! any other model directory when it is loaded. `push` uploads a directory.

mod download;
mod http;
mod push;

use std::fmt;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use crate::error::{PolicyError, Result};
use crate::load::{INDEX, INDEX_BYTES_MAX, SINGLE, read_text, shard_names};
use http::Http;
pub use push::{PushOptions, Pushed};

/// Where the hub is when `HF_ENDPOINT` does not say otherwise.
const ENDPOINT: &str = "https://huggingface.co";
/// Characters of an owner, and of a name.
const NAME_MAX: usize = 96;
/// Characters of a revision.
const REVISION_MAX: usize = 200;
/// The revision when none is given.
const MAIN: &str = "main";
/// Bytes of a token's file that are read.
const TOKEN_BYTES_MAX: u64 = 4096;
/// What a model cannot do without, besides its weights.
const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];
/// What is used where a model has it.
const OPTIONAL: [&str; 3] = ["generation_config.json", "tokenizer_config.json", "chat_template.jinja"];

/// A model on the hub, at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubId {
    repo: String,
    revision: String,
}

impl HubId {
    /// Reads `owner/name` or `owner/name@revision` (a branch, a tag or a commit); `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (repo, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let (owner, name) = repo.split_once('/')?;
        let plain = |part: &str, max: usize| {
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            let edges = part.starts_with(['.', '-']) || part.ends_with(['.', '-']);
            !part.is_empty()
                && part.len() <= max
                && part.chars().all(known)
                && !edges
                && !part.contains("..")
                && !part.contains("--")
        };
        let named = plain(owner, NAME_MAX) && plain(name, NAME_MAX);
        let revised =
            revision.len() <= REVISION_MAX && revision.split('/').all(|part| plain(part, REVISION_MAX));
        (named && revised).then(|| Self { repo: repo.to_owned(), revision: revision.to_owned() })
    }

    /// `owner/name`.
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// Branch, tag or commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        if self.revision == MAIN { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

/// A secret that is never shown.
#[derive(Clone)]
pub(crate) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// How the hub is reached.
#[derive(Clone, Debug)]
pub struct Hub {
    http: Http,
    cache: Cache,
    offline: bool,
}

impl Hub {
    /// The hub at an address such as `https://huggingface.co`, with a cache directory (the one that holds
    /// `models--owner--name`) and without a token.
    pub fn new(endpoint: &str, cache: &Path) -> Self {
        Self { http: Http::new(endpoint), cache: Cache::new(cache.to_path_buf()), offline: false }
    }

    /// The hub as the environment says: `HF_ENDPOINT`; `HF_HUB_CACHE`, or `hub` in `HF_HOME`, or else in the
    /// user's cache directory; `HF_HUB_OFFLINE`; `HF_TOKEN`, or the file that `hf auth login` writes.
    ///
    /// # Errors
    /// No variable says where the cache is, or the token cannot be one.
    pub fn from_env() -> Result<Self> {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = var("HF_HOME").map(PathBuf::from).or_else(|| {
            let user = || Some(Path::new(&var("HOME")?).join(".cache"));
            Some(var("XDG_CACHE_HOME").map(PathBuf::from).or_else(user)?.join("huggingface"))
        });
        let cache = var("HF_HUB_CACHE").map(PathBuf::from).or_else(|| Some(home.as_ref()?.join("hub")));
        let cache = cache.ok_or_else(|| {
            PolicyError::input("there is no place for downloaded models", "set HF_HOME to a directory")
        })?;
        let endpoint = var("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        let file = var("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(home?.join("token")));
        let stored = || read_text(&file.filter(|path| path.is_file())?, TOKEN_BYTES_MAX).ok();
        let hub = Self::new(&endpoint, &cache);
        let hub = match var("HF_TOKEN").or_else(stored) {
            Some(token) if !token.trim().is_empty() => hub.with_token(&token)?,
            _ => hub,
        };
        let on = |value: String| matches!(value.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE");
        Ok(hub.offline(var("HF_HUB_OFFLINE").is_some_and(on)))
    }

    /// With a token, sent to the hub itself only.
    ///
    /// # Errors
    /// It has characters that no token has.
    pub fn with_token(mut self, token: &str) -> Result<Self> {
        let token = token.trim();
        if !token.chars().all(|c| c.is_ascii_graphic()) {
            return Err(PolicyError::input(
                "the token for the hub has characters that no token has",
                "set HF_TOKEN to one from the hub's settings, or remove it",
            ));
        }
        self.http.token = Some(Token(token.to_owned()));
        Ok(self)
    }

    /// Whether only the cache is used.
    #[must_use]
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Files of the model that are not in the cache; the names of shards are only known with the index. Does not
    /// use the network.
    pub fn missing(&self, id: &HubId) -> Vec<String> {
        match self.snapshot(id) {
            Some(dir) => missing_in(&dir),
            None => REQUIRED.iter().chain(&[SINGLE]).map(|name| (*name).to_owned()).collect(),
        }
    }

    /// The model's directory in the cache.
    ///
    /// # Errors
    /// [`PolicyError::Hub`] with the files that are missing.
    pub fn cached(&self, id: &HubId) -> Result<PathBuf> {
        let missing = self.missing(id);
        match self.snapshot(id) {
            Some(dir) if missing.is_empty() => Ok(dir),
            _ => Err(PolicyError::Hub {
                id: id.to_string(),
                what: format!("not in the cache: {}", missing.join(", ")),
                hint: format!(
                    "download it once with a network and without HF_HUB_OFFLINE (cache: {})",
                    self.cache.path().display()
                ),
            }),
        }
    }

    /// The model's directory, after downloading what is missing. `told` hears how each download goes on: the file's
    /// name, the bytes that are here, and the bytes that it has. Without a network, a model that is whole in the cache will do.
    ///
    /// # Errors
    /// [`PolicyError::Hub`]: offline and not in the cache, no network, no such model, no access, no safetensors;
    /// [`PolicyError::Io`] from the cache directory.
    pub fn fetch(&self, id: &HubId, told: &mut dyn FnMut(&str, u64, u64)) -> Result<PathBuf> {
        let cached = self.cached(id);
        if self.offline || (cached.is_ok() && is_commit(&id.revision)) {
            return cached;
        }
        download::snapshot(self, id, cached.ok(), told)
    }

    fn repo(&self, id: &HubId) -> CacheRepo {
        self.cache.repo(Repo::with_revision(id.repo.clone(), RepoType::Model, id.revision.clone()))
    }

    /// Where the cache has this revision, whole or not.
    fn snapshot(&self, id: &HubId) -> Option<PathBuf> {
        let repo = self.repo(id);
        let dir = if is_commit(&id.revision) {
            repo.pointer_path(&id.revision)
        } else {
            repo.get(REQUIRED[0])?.parent()?.to_path_buf()
        };
        dir.is_dir().then_some(dir)
    }
}

/// Whether a revision can only ever mean one content.
fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn missing_in(dir: &Path) -> Vec<String> {
    let has = |name: &str| dir.join(name).is_file();
    let mut missing: Vec<String> =
        REQUIRED.iter().filter(|name| !has(name)).map(|name| (*name).to_owned()).collect();
    if has(SINGLE) {
        return missing;
    }
    let shards = read_text(&dir.join(INDEX), INDEX_BYTES_MAX).ok().and_then(|text| shard_names(&text).ok());
    match shards {
        Some(names) => missing.extend(names.into_iter().filter(|name| !has(name))),
        None => missing.push(SINGLE.into()),
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_paths() {
        let id = HubId::parse("Qwen/Qwen2.5-0.5B-Instruct@refs/pr/3").unwrap();
        assert_eq!((id.repo(), id.revision()), ("Qwen/Qwen2.5-0.5B-Instruct", "refs/pr/3"));
        assert_eq!(HubId::parse("a/b").unwrap().to_string(), "a/b");
        assert_eq!(HubId::parse("a/b@v1").unwrap().to_string(), "a/b@v1");
        for path in
            ["amber", "./a/b", "../b", "/a/b", "a/b/c", "a/..", "a/b@", "a/b@../c", "a/b@/c", "a b/c", "a/"]
        {
            assert_eq!(HubId::parse(path), None, "{path}");
        }
    }

    #[test]
    fn a_token_is_never_shown() {
        let hub = Hub::new("http://127.0.0.1:9", Path::new("cache")).with_token(" hf_secret\n").unwrap();
        assert!(!format!("{hub:?}").contains("hf_secret"));
        let error = hub.with_token("hf_secret two").unwrap_err().to_string();
        assert!(!error.contains("hf_secret"), "{error}");
    }
}
