//! A directory to the hub in one commit.
//!
//! The hub's documented way: make the repository if it is not there, ask which files are large, send those to the
//! store that the LFS batch endpoint names (in one piece or in the parts it asks for), then post one commit that
//! holds the small files and the hashes of the large ones. A commit is whole or not there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use ureq::SendBody;
use ureq::http::Method;

use super::download::sha256;
use super::http::{Failure, LFS, header};
use super::{Hub, HubId, MAIN};
use crate::error::{PolicyError, Result};

/// Files of a directory.
const FILES_MAX: usize = 256;
/// Bytes of a file that goes into the commit itself.
const SMALL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of a file's beginning by which the hub tells text from data.
const SAMPLE_BYTES: u64 = 512;
/// Parts of a large file.
const PARTS_MAX: u64 = 10_000;
const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
const READABLE: &str = "check its permissions";

/// How a directory is uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushOptions {
    /// Whether a repository that is made for it is private.
    pub private: bool,
    /// First line of the commit's message.
    pub message: String,
    /// Only list what would be uploaded; does not use the network.
    pub dry_run: bool,
}

/// What was uploaded, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Names and bytes, by name.
    pub files: Vec<(String, u64)>,
    /// Address of the commit; `None` of a dry run.
    pub commit: Option<String>,
}

struct Upload {
    name: String,
    path: PathBuf,
    bytes: u64,
    large: bool,
    /// SHA-256 of a large file, hexadecimal.
    oid: String,
}

impl Hub {
    /// Uploads the files of a directory (not of directories in it, no hidden files, no links) to the model `id`.
    ///
    /// # Errors
    /// Nothing to upload, a file cannot be read, there is no token, offline, or the hub does not take it.
    pub fn push(&self, dir: &Path, id: &HubId, options: &PushOptions) -> Result<Pushed> {
        let mut uploads = list(dir)?;
        let files = uploads.iter().map(|upload| (upload.name.clone(), upload.bytes)).collect();
        if options.dry_run {
            return Ok(Pushed { files, commit: None });
        }
        let refused = |what: &str, hint: &str| PolicyError::Hub {
            id: id.to_string(),
            what: what.to_owned(),
            hint: hint.to_owned(),
        };
        if self.offline {
            return Err(refused("nothing can be uploaded offline", "unset HF_HUB_OFFLINE"));
        }
        if !self.http.has_token() {
            return Err(refused("uploading needs a token", "set HF_TOKEN to one that may write"));
        }
        let during = |doing: &'static str| move |failure| self.http.error(&id.to_string(), doing, failure);
        self.create(id, options.private).map_err(during("making the repository"))?;
        self.ask_sizes(id, &mut uploads)?;
        self.send_large(id, &mut uploads)?;
        let commit = self.commit(id, &uploads, &options.message)?;
        Ok(Pushed { files, commit: Some(commit) })
    }

    fn create(&self, id: &HubId, private: bool) -> std::result::Result<(), Failure> {
        let (owner, name) = id.repo.split_once('/').unwrap_or(("", &id.repo));
        let body = json!({ "name": name, "organization": owner, "type": "model", "private": private });
        match self.http.post(&self.http.url("api/repos/create"), JSON, body.to_string().as_bytes()) {
            // It is there already.
            Ok(_) | Err(Failure::Refused(409, _)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Asks the hub which files are large.
    fn ask_sizes(&self, id: &HubId, uploads: &mut [Upload]) -> Result<()> {
        let mut files = Vec::new();
        for upload in uploads.iter() {
            let mut sample = Vec::new();
            let file = File::open(&upload.path).map_err(PolicyError::io("read", &upload.path, READABLE))?;
            let read = file.take(SAMPLE_BYTES).read_to_end(&mut sample);
            read.map_err(PolicyError::io("read", &upload.path, READABLE))?;
            files.push(json!({ "path": upload.name, "size": upload.bytes, "sample": BASE64.encode(sample) }));
        }
        let url = self.http.url(&format!("api/models/{}/preupload/{MAIN}", id.repo));
        let answer = self.http.post(&url, JSON, json!({ "files": files }).to_string().as_bytes());
        let fail = |failure| self.http.error(&id.to_string(), "asking where files go", failure);
        let answer = answer.map_err(fail)?;
        let modes: BTreeMap<&str, &str> = answer["files"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|file| Some((file["path"].as_str()?, file["uploadMode"].as_str()?)))
            .collect();
        for upload in uploads {
            match modes.get(upload.name.as_str()) {
                Some(mode) => upload.large = *mode == "lfs" && upload.bytes > 0,
                None => {
                    return Err(fail(Failure::Strange(format!(
                        "it does not say where {} goes",
                        upload.name
                    ))));
                }
            }
            if !upload.large && upload.bytes > SMALL_BYTES_MAX {
                let what = format!("{} of {} bytes is no large file to the hub", upload.name, upload.bytes);
                return Err(fail(Failure::Strange(what)));
            }
        }
        Ok(())
    }

    fn send_large(&self, id: &HubId, uploads: &mut [Upload]) -> Result<()> {
        let mut large: Vec<&mut Upload> = uploads.iter_mut().filter(|upload| upload.large).collect();
        if large.is_empty() {
            return Ok(());
        }
        for upload in &mut large {
            let unreadable = || PolicyError::io("read", &upload.path, READABLE);
            let mut file = File::open(&upload.path).map_err(unreadable())?;
            upload.oid = sha256(&mut file).map_err(unreadable())?;
        }
        let fail = |failure| self.http.error(&id.to_string(), "uploading large files", failure);
        let objects: Vec<Value> =
            large.iter().map(|upload| json!({ "oid": upload.oid, "size": upload.bytes })).collect();
        let body = json!({
            "operation": "upload", "transfers": ["basic", "multipart"], "hash_algo": "sha256", "objects": objects,
        });
        let url = self.http.url(&format!("{}.git/info/lfs/objects/batch", id.repo));
        let answer = self.http.post(&url, LFS, body.to_string().as_bytes()).map_err(fail)?;
        for upload in large {
            let object = answer["objects"].as_array().into_iter().flatten().find(|o| o["oid"] == upload.oid);
            let object = object.ok_or_else(|| Failure::Strange(format!("no word about {}", upload.name)));
            self.send_object(upload, object.map_err(fail)?).map_err(|failure| {
                self.http.error(&id.to_string(), &format!("uploading {}", upload.name), failure)
            })?;
        }
        Ok(())
    }

    /// Sends one large file as the batch endpoint says; nothing if the store has it.
    fn send_object(&self, upload: &Upload, object: &Value) -> std::result::Result<(), Failure> {
        if let Some(code) = object["error"]["code"].as_u64() {
            let words = object["error"]["message"].as_str().unwrap_or("").chars().take(200).collect();
            return Err(Failure::Refused(u16::try_from(code).unwrap_or(500), words));
        }
        let actions = &object["actions"];
        let Some(address) = actions["upload"]["href"].as_str() else { return Ok(()) };
        let told = &actions["upload"]["header"];
        let part_bytes = match &told["chunk_size"] {
            Value::Null => None,
            Value::String(text) => text.parse().ok(),
            number => number.as_u64(),
        };
        match part_bytes {
            None if told["chunk_size"].is_null() => {
                let headers = told.as_object().into_iter().flatten();
                let headers: Vec<(&str, &str)> =
                    headers.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect();
                self.put(upload, address, &headers, 0..upload.bytes)?;
            }
            Some(part_bytes) if part_bytes > 0 && upload.bytes.div_ceil(part_bytes) <= PARTS_MAX => {
                self.put_parts(upload, address, told, part_bytes)?;
            }
            _ => return Err(Failure::Strange(format!("parts of {} bytes", told["chunk_size"]))),
        }
        if let Some(verify) = actions["verify"]["href"].as_str() {
            let body = json!({ "oid": upload.oid, "size": upload.bytes });
            self.http.post(verify, LFS, body.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// Sends the parts of a large file, then says which they are.
    fn put_parts(
        &self,
        upload: &Upload,
        completion: &str,
        addresses: &Value,
        part_bytes: u64,
    ) -> std::result::Result<(), Failure> {
        let mut parts = Vec::new();
        for number in 1..=upload.bytes.div_ceil(part_bytes) {
            let named = addresses.as_object().into_iter().flatten();
            let mut named = named.filter(|(name, _)| name.parse() == Ok(number));
            let address = named.next().and_then(|(_, address)| address.as_str());
            let address = address.ok_or_else(|| Failure::Strange(format!("no address for part {number}")))?;
            let from = (number - 1) * part_bytes;
            let etag = self.put(upload, address, &[], from..upload.bytes.min(from + part_bytes))?;
            let etag = etag.ok_or_else(|| Failure::Strange(format!("part {number} has no ETag")))?;
            parts.push(json!({ "partNumber": number, "etag": etag }));
        }
        let body = json!({ "oid": upload.oid, "parts": parts });
        self.http.post(completion, LFS, body.to_string().as_bytes()).map(drop)
    }

    /// Sends a stretch of a file to a store; gives the store's ETag.
    fn put(
        &self,
        upload: &Upload,
        address: &str,
        headers: &[(&str, &str)],
        stretch: std::ops::Range<u64>,
    ) -> std::result::Result<Option<String>, Failure> {
        let changed = |error: std::io::Error| Failure::Strange(format!("{}: {error}", upload.path.display()));
        let mut file = File::open(&upload.path).map_err(changed)?;
        file.seek(SeekFrom::Start(stretch.start)).map_err(changed)?;
        let length = (stretch.end - stretch.start).to_string();
        let mut headers = headers.to_vec();
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
        headers.push(("content-length", &length));
        let mut stretch = file.take(stretch.end - stretch.start);
        let answer = self.http.send(Method::PUT, address, &headers, SendBody::from_reader(&mut stretch))?;
        if !answer.status().is_success() {
            return Err(self.http.refusal(answer));
        }
        Ok(header(&answer, "etag").map(str::to_owned))
    }

    fn commit(&self, id: &HubId, uploads: &[Upload], message: &str) -> Result<String> {
        let header = json!({ "key": "header", "value": { "summary": message, "description": "" } });
        let mut body = format!("{header}\n");
        for upload in uploads {
            let line = if upload.large {
                json!({ "key": "lfsFile", "value": {
                    "path": upload.name, "algo": "sha256", "oid": upload.oid, "size": upload.bytes,
                } })
            } else {
                let content =
                    fs::read(&upload.path).map_err(PolicyError::io("read", &upload.path, READABLE))?;
                let content = BASE64.encode(content);
                json!({ "key": "file", "value": { "path": upload.name, "encoding": "base64", "content": content } })
            };
            body.push_str(&format!("{line}\n"));
        }
        let fail = |failure| self.http.error(&id.to_string(), "committing", failure);
        let url = self.http.url(&format!("api/models/{}/commit/{MAIN}", id.repo));
        let answer = self.http.post(&url, LINES, body.as_bytes()).map_err(fail)?;
        let commit = answer["commitUrl"].as_str().map(str::to_owned);
        commit.ok_or_else(|| fail(Failure::Strange("no commit in its answer".into())))
    }
}

/// The plain files of a directory, by name.
fn list(dir: &Path) -> Result<Vec<Upload>> {
    let hint = "give the directory of an exported model";
    let mut uploads = Vec::new();
    for entry in fs::read_dir(dir).map_err(PolicyError::io("read", dir, hint))? {
        let entry = entry.map_err(PolicyError::io("read", dir, hint))?;
        // Of the entry itself: a link could lead to anything.
        let kind = entry.metadata().map_err(PolicyError::io("read", dir, hint))?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        if kind.is_file() && !name.starts_with('.') {
            let bytes = kind.len();
            uploads.push(Upload { name, path: entry.path(), bytes, large: false, oid: String::new() });
        }
        if uploads.len() > FILES_MAX {
            return Err(PolicyError::damaged(dir, format!("has more than {FILES_MAX} files"), hint));
        }
    }
    if uploads.is_empty() {
        return Err(PolicyError::damaged(dir, "has no files", hint));
    }
    uploads.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(uploads)
}
