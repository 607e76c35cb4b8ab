//! Models by what the user types: an embedded base, a Hugging Face directory, or a model of the hub.
//!
//! This is the one place that decides which of them a name means:
//!
//! | name | means |
//! |---|---|
//! | `amber` | the embedded base; `./amber` is always a directory |
//! | a directory that is there | that directory |
//! | `owner/name`, `owner/name@revision` | the hub's model, unless a directory has this name |

use std::path::{Path, PathBuf};

use anyhow::Context;
use policy::export::BaseFiles;
use policy::{ChatTemplate, GenerationConfig, Hub, HubId, ModelConfig, Policy};

use crate::config::{ConfigError, nearest};
use crate::printer::Progress;

/// What a model that chats is told before a task, unless a config says otherwise.
pub(crate) const SYSTEM_PROMPT: &str =
    "Reply only with <think>your reasoning</think><answer>your answer</answer>.";

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A base inside this binary.
    Embedded(String),
    /// A Hugging Face directory.
    Directory(PathBuf),
    /// A model of the hub.
    Hub(HubId),
}

impl Source {
    /// Decides what `name` means; asks the disk, not the network.
    ///
    /// # Errors
    /// [`ConfigError`] for a name that means nothing, or two things.
    pub(crate) fn of(name: &str) -> anyhow::Result<Self> {
        if policy::bases().contains(&name) {
            return Ok(Self::Embedded(name.to_owned()));
        }
        let path = Path::new(name);
        match (path.is_dir(), HubId::parse(name)) {
            // Both are on this machine, so that either may be meant.
            (true, Some(id)) if Hub::from_env().is_ok_and(|hub| hub.cached(&id).is_ok()) => {
                let hint = format!(
                    "write ./{name} for the directory, or {}@{} for the model of the hub",
                    id.repo(),
                    id.revision()
                );
                let what = "is a directory here and a model of the hub in the cache";
                Err(ConfigError::new(name, what, hint).into())
            }
            (true, _) => Ok(Self::Directory(path.to_path_buf())),
            (false, Some(id)) if !path.exists() => Ok(Self::Hub(id)),
            (false, _) => Err(unknown(name, path.exists()).into()),
        }
    }

    /// The model's files on this machine, downloaded if they are not there yet.
    ///
    /// # Errors
    /// No network, no such model, no access, no room.
    pub(crate) fn fetch(&self, offline: bool) -> anyhow::Result<Model> {
        Ok(match self {
            Self::Embedded(name) => Model::Embedded(name.clone()),
            Self::Directory(dir) => Model::Directory(dir.clone()),
            Self::Hub(id) => Model::Directory(download(id, offline)?),
        })
    }

    /// The model's files if all are on this machine; for a model of the hub the names of those that are not.
    ///
    /// # Errors
    /// There is no cache directory.
    pub(crate) fn here(&self) -> anyhow::Result<Result<Model, Vec<String>>> {
        if let Self::Hub(id) = self {
            let missing = Hub::from_env()?.missing(id);
            if !missing.is_empty() {
                return Ok(Err(missing));
            }
        }
        self.fetch(true).map(Ok)
    }
}

fn unknown(name: &str, exists: bool) -> ConfigError {
    if exists {
        return ConfigError::new(
            name,
            "is a file, not a model directory",
            "give the directory that it lies in",
        );
    }
    let known = policy::bases();
    let hint = match nearest(name, known) {
        Some(near) => format!("did you mean the embedded base `{near}`?"),
        None => format!(
            "give an embedded base ({}), a Hugging Face directory, or owner/name of the hub",
            known.join(", ")
        ),
    };
    ConfigError::new(name, "no such model", hint)
}

fn download(id: &HubId, offline: bool) -> anyhow::Result<PathBuf> {
    let hub = Hub::from_env()?;
    let hub = if offline { hub.offline(true) } else { hub };
    let mut progress = Progress::new();
    let mib = |bytes: u64| bytes.div_ceil(1024 * 1024);
    let dir = hub.fetch(id, &mut |file, done, bytes| {
        let line = || format!("downloading {id}: {file}, {} of {} MiB", mib(done), mib(bytes));
        if done == bytes { progress.finish(&line()) } else { progress.show(line) }
    });
    dir.with_context(|| format!("{id} is no directory here and was taken for a model of the hub"))
}

/// A model whose files are on this machine; its weights are not read yet.
#[derive(Clone, Debug)]
pub(crate) enum Model {
    /// A base inside this binary.
    Embedded(String),
    /// A Hugging Face directory.
    Directory(PathBuf),
}

impl Model {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Embedded(_) => None,
            Self::Directory(dir) => Some(dir),
        }
    }

    /// Shape and constants.
    ///
    /// # Errors
    /// The directory's `config.json` cannot be used.
    pub(crate) fn config(&self) -> policy::Result<ModelConfig> {
        match self {
            Self::Embedded(name) => Ok(Policy::embedded(name)?.config().clone()),
            Self::Directory(dir) => ModelConfig::load(dir),
        }
    }

    /// How it is chatted with, if it chats.
    ///
    /// # Errors
    /// The template is damaged.
    pub(crate) fn template(&self) -> policy::Result<Option<ChatTemplate>> {
        self.dir().map_or(Ok(None), ChatTemplate::load)
    }

    /// What its authors say about sampling, if they say anything.
    ///
    /// # Errors
    /// The file is damaged.
    pub(crate) fn generation(&self) -> policy::Result<Option<GenerationConfig>> {
        self.dir().map_or(Ok(None), GenerationConfig::load)
    }

    /// What an export takes over from it as it is.
    ///
    /// # Errors
    /// A file that is damaged.
    pub(crate) fn base_files(&self) -> policy::Result<BaseFiles> {
        self.dir().map_or(Ok(BaseFiles::default()), BaseFiles::load)
    }

    /// Reads it, without its chat template.
    ///
    /// # Errors
    /// What is wrong with the directory.
    pub(crate) fn load(&self) -> policy::Result<Policy> {
        match self {
            Self::Embedded(name) => Policy::embedded(name),
            Self::Directory(dir) => Policy::load(dir),
        }
    }
}

/// Opens a model to be asked: with all cores and, where it has one, through its chat template.
///
/// # Errors
/// As [`Source::of`], [`Source::fetch`] and [`Model::load`].
pub(crate) fn open(name: &str, offline: bool) -> anyhow::Result<Policy> {
    let model = Source::of(name)?.fetch(offline)?;
    let policy = model.load()?.with_threads(0)?;
    Ok(match model.template()? {
        Some(template) => policy.with_chat(template, Some(SYSTEM_PROMPT))?,
        None => policy,
    })
}

/// Opens a model without its text (see [`Policy::without_text`]); a directory needs no tokenizer then.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_without_text(name: &str) -> anyhow::Result<Policy> {
    Ok(match Source::of(name)?.fetch(false)? {
        Model::Embedded(name) => Policy::embedded(&name)?.without_text(),
        Model::Directory(dir) => Policy::load_without_text(&dir)?,
    })
}

/// The chat template that came with a model of this machine; `None` if it has none, as the embedded bases.
///
/// # Errors
/// The model is not here, or has a template that cannot be read.
pub(crate) fn chat_template(name: &str) -> anyhow::Result<Option<ChatTemplate>> {
    Ok(Source::of(name)?.fetch(true)?.template()?)
}

/// The first eight bytes of the hash of the weights, in hexadecimal.
pub(crate) fn short_hash(policy: &Policy) -> String {
    hex(&policy.hash()[..8])
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
