//! The files of one commit into the cache.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use ureq::http::Method;

use super::http::{Failure, Http, header, json};
use super::{Hub, HubId, OPTIONAL, REQUIRED, is_commit};
use crate::error::{PolicyError, Result};
use crate::load::{
    CONFIG_BYTES_MAX, INDEX, INDEX_BYTES_MAX, SINGLE, TOKENIZER_BYTES_MAX, read_text, shard_names,
};

/// Bytes of a weight file.
const WEIGHTS_BYTES_MAX: u64 = 128 * 1024 * 1024 * 1024;
/// Times a broken transfer is taken up again.
const TRIES: usize = 4;
/// Bytes that are read at once.
const PIECE_BYTES: usize = 1024 * 1024;
const NO_ROOM: &str = "check free space and permissions, or set HF_HOME to another directory";

/// Downloads what is missing of a revision; without a network, `cached` will do.
pub(super) fn snapshot(
    hub: &Hub,
    id: &HubId,
    cached: Option<PathBuf>,
    told: &mut dyn FnMut(&str, u64, u64),
) -> Result<PathBuf> {
    let (commit, files) = match (inquire(&hub.http, id), cached) {
        (Ok(found), _) => found,
        (Err(Failure::Unreachable(_)), Some(dir)) => return Ok(dir),
        (Err(failure), _) => return Err(hub.http.error(&id.to_string(), "asking for its files", failure)),
    };
    let has = |name: &str| files.iter().any(|file| file == name);
    let repo = hub.repo(id);
    let mut transfer = Transfer { hub, id, commit: &commit, told };
    for name in REQUIRED.into_iter().chain(OPTIONAL).filter(|name| REQUIRED.contains(name) || has(name)) {
        transfer.file(name)?;
    }
    if has(SINGLE) {
        transfer.file(SINGLE)?;
    } else if has(INDEX) {
        let path = transfer.file(INDEX)?;
        let names = shard_names(&read_text(&path, INDEX_BYTES_MAX)?);
        for name in names.map_err(|why| hub.strange(id, &format!("{INDEX}: {why}")))? {
            transfer.file(&name)?;
        }
    } else {
        let hint = "choose a model with safetensors, or convert it with save_pretrained of transformers";
        return Err(PolicyError::Hub {
            id: id.to_string(),
            what: "has no weights in safetensors".into(),
            hint: hint.into(),
        });
    }
    // Last, so that the name of a branch never leads to half a model.
    if id.revision != commit {
        repo.create_ref(&commit).map_err(PolicyError::io("write", hub.cache.path(), NO_ROOM))?;
    }
    Ok(repo.pointer_path(&commit))
}

/// The commit that a revision means now, and its files.
fn inquire(http: &Http, id: &HubId) -> std::result::Result<(String, Vec<String>), Failure> {
    let revision = id.revision.replace('/', "%2F");
    let url = http.url(&format!("api/models/{}/revision/{revision}", id.repo));
    let answer = json(http.get(&Method::GET, &url, &[])?)?;
    let commit = answer["sha"].as_str().filter(|sha| is_commit(sha));
    let commit = commit.ok_or_else(|| Failure::Strange("no commit in its answer".into()))?;
    let files = answer["siblings"].as_array().into_iter().flatten();
    let names = files.filter_map(|file| file["rfilename"].as_str().map(str::to_owned));
    Ok((commit.to_owned(), names.collect()))
}

/// Most bytes of a file by its name.
fn bytes_max(name: &str) -> u64 {
    match name {
        INDEX => INDEX_BYTES_MAX,
        "tokenizer.json" => TOKENIZER_BYTES_MAX,
        _ if name.ends_with(".safetensors") => WEIGHTS_BYTES_MAX,
        _ => CONFIG_BYTES_MAX,
    }
}

impl Hub {
    fn strange(&self, id: &HubId, why: &str) -> PolicyError {
        self.http.error(&id.to_string(), "downloading", Failure::Strange(why.to_owned()))
    }
}

/// What the hub says about a file.
struct Entry {
    /// Name of its content in the cache: SHA-256 of a large file, otherwise git's.
    etag: String,
    bytes: u64,
}

struct Transfer<'a> {
    hub: &'a Hub,
    id: &'a HubId,
    commit: &'a str,
    told: &'a mut dyn FnMut(&str, u64, u64),
}

impl Transfer<'_> {
    /// The place of a file in the cache, after downloading it if it is not there.
    fn file(&mut self, name: &str) -> Result<PathBuf> {
        let snapshot = self.hub.repo(self.id).pointer_path(self.commit);
        let pointer = snapshot.join(name);
        if pointer.is_file() {
            return Ok(pointer);
        }
        let url = self.hub.http.url(&format!("{}/resolve/{}/{name}", self.id.repo, self.commit));
        let entry = self.entry(&url).map_err(|failure| self.failed(name, failure))?;
        if entry.bytes > bytes_max(name) {
            let why = format!("{name} has {} bytes where at most {} are taken", entry.bytes, bytes_max(name));
            return Err(self.hub.strange(self.id, &why));
        }
        let root = snapshot.parent().and_then(Path::parent).unwrap_or(&snapshot);
        let blobs = root.join("blobs");
        for dir in [&snapshot, &blobs] {
            fs::create_dir_all(dir).map_err(PolicyError::io("create", dir, NO_ROOM))?;
        }
        let blob = blobs.join(&entry.etag);
        if !blob.is_file() {
            self.blob(name, &url, &entry, &blob)?;
        }
        link(&blob, &pointer).map_err(PolicyError::io("write", &pointer, NO_ROOM))?;
        Ok(pointer)
    }

    fn failed(&self, name: &str, failure: Failure) -> PolicyError {
        self.hub.http.error(&self.id.to_string(), &format!("downloading {name}"), failure)
    }

    fn entry(&self, url: &str) -> std::result::Result<Entry, Failure> {
        let answer = self.hub.http.get(&Method::HEAD, url, &[("accept-encoding", "identity")])?;
        let etag = header(&answer, "x-linked-etag").or_else(|| header(&answer, "etag")).unwrap_or("");
        let etag = etag.trim_start_matches("W/").trim_matches('"');
        // It becomes a file name.
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if etag.is_empty() || etag.len() > 128 || !etag.chars().all(plain) {
            return Err(Failure::Strange("no usable ETag".into()));
        }
        let bytes = header(&answer, "x-linked-size").or_else(|| header(&answer, "content-length"));
        let bytes = bytes.and_then(|bytes| bytes.parse().ok());
        let bytes = bytes.ok_or_else(|| Failure::Strange("no size".into()))?;
        Ok(Entry { etag: etag.to_owned(), bytes })
    }

    /// Downloads a content under a temporary name, checks it, and gives it its name.
    fn blob(&mut self, name: &str, url: &str, entry: &Entry, blob: &Path) -> Result<()> {
        let part = blob.with_extension("part");
        let io = |op| PolicyError::io(op, &part, NO_ROOM);
        let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&part);
        let mut file = opened.map_err(io("write"))?;
        // Another process may be at it: wait, and find it done.
        file.lock().map_err(io("lock"))?;
        if blob.is_file() {
            return Ok(());
        }
        self.transfer(name, url, entry.bytes, &mut file).map_err(|stop| match stop {
            Stop::Hub(failure) => self.failed(name, failure),
            Stop::Disk(error) => io("write")(error),
        })?;
        if entry.etag.len() == 64 && sha256(&mut file).map_err(io("read"))? != entry.etag {
            file.set_len(0).map_err(io("write"))?;
            return Err(self.hub.strange(self.id, &format!("{name} arrived damaged: its SHA-256 differs")));
        }
        file.sync_all().map_err(io("write"))?;
        fs::rename(&part, blob).map_err(PolicyError::io("rename", &part, NO_ROOM))
    }

    /// Fills the file up to `bytes`, going on where an earlier attempt stopped.
    fn transfer(
        &mut self,
        name: &str,
        url: &str,
        bytes: u64,
        file: &mut File,
    ) -> std::result::Result<(), Stop> {
        let mut last = None;
        for _ in 0..TRIES {
            let have = file.metadata().map_err(Stop::Disk)?.len();
            let have = if have > bytes { 0 } else { have };
            file.set_len(have).map_err(Stop::Disk)?;
            if have == bytes {
                return Ok(());
            }
            (self.told)(name, have, bytes);
            match self.go_on(name, url, have..bytes, file) {
                // The connection broke: the next attempt asks for the rest.
                Err(Stop::Hub(failure @ Failure::Unreachable(_))) => last = Some(failure),
                other => other?,
            }
        }
        if file.metadata().map_err(Stop::Disk)?.len() == bytes {
            return Ok(());
        }
        Err(Stop::Hub(last.unwrap_or_else(|| Failure::Unreachable(format!("{name} ends early")))))
    }

    fn go_on(
        &mut self,
        name: &str,
        url: &str,
        rest: Range<u64>,
        file: &mut File,
    ) -> std::result::Result<(), Stop> {
        let Range { start: have, end: bytes } = rest;
        let range = format!("bytes={have}-");
        let plain = [("accept-encoding", "identity"), ("range", range.as_str())];
        let headers = if have == 0 { &plain[..1] } else { &plain[..] };
        let answer = self.hub.http.get(&Method::GET, url, headers).map_err(Stop::Hub)?;
        // A server may ignore the range and send everything.
        let from = if answer.status().as_u16() == 206 { have } else { 0 };
        file.set_len(from).map_err(Stop::Disk)?;
        file.seek(SeekFrom::Start(from)).map_err(Stop::Disk)?;
        let mut body = answer.into_body().into_reader().take(bytes - from);
        let mut piece = vec![0; PIECE_BYTES];
        let mut done = from;
        loop {
            let unreachable = |error: io::Error| Stop::Hub(Failure::Unreachable(error.to_string()));
            let count = body.read(&mut piece).map_err(unreachable)?;
            if count == 0 {
                return Ok(());
            }
            file.write_all(&piece[..count]).map_err(Stop::Disk)?;
            done += count as u64;
            (self.told)(name, done, bytes);
        }
    }
}

/// What ended a transfer.
enum Stop {
    Hub(Failure),
    Disk(io::Error),
}

/// SHA-256 of a whole file in hexadecimal.
pub(super) fn sha256(file: &mut File) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hasher.update(&piece[..count]);
    }
}

/// Makes a content appear under its name in a snapshot.
fn link(blob: &Path, pointer: &Path) -> io::Result<()> {
    if pointer.symlink_metadata().is_ok() {
        fs::remove_file(pointer)?;
    }
    #[cfg(unix)]
    {
        let etag = blob.file_name().unwrap_or_default();
        std::os::unix::fs::symlink(Path::new("../../blobs").join(etag), pointer)
    }
    #[cfg(not(unix))]
    {
        fs::copy(blob, pointer).map(drop)
    }
}
