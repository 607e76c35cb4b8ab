//! A hub on loopback, as far as a client sees it: models by revision with ETags and a commit, large files behind a
//! redirect to a store at another address, ranges, and the commit API with LFS uploads.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Files above this many bytes are uploaded in parts of as many.
pub(crate) const PART: usize = 100_000;

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the hub knows, and how it misbehaves.
#[derive(Default)]
pub(crate) struct State {
    /// Files of each model by revision.
    pub(crate) models: HashMap<String, BTreeMap<String, Vec<u8>>>,
    /// Large contents by SHA-256.
    pub(crate) store: HashMap<String, Vec<u8>>,
    /// Every request: method, address, authorization.
    pub(crate) requests: Vec<(String, String, Option<String>)>,
    /// The store closes the connection after this many bytes, once for each entry.
    pub(crate) cuts: Vec<usize>,
    /// The store sends other bytes than it should.
    pub(crate) lies: bool,
    /// Sent as ETag of every file instead of the right one.
    pub(crate) etag: Option<String>,
    /// Token without which nothing is shown.
    pub(crate) token: Option<String>,
    parts: BTreeMap<(String, usize), Vec<u8>>,
    created: Vec<String>,
}

pub(crate) struct Server {
    pub(crate) endpoint: String,
    pub(crate) store: String,
    state: Arc<Mutex<State>>,
}

struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Bytes of the body that are really sent.
    sent: usize,
}

impl Server {
    pub(crate) fn start() -> Self {
        let [hub, store] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let (endpoint, store_address) = (address(&hub), address(&store));
        let state = Arc::new(Mutex::new(State::default()));
        for listener in [hub, store] {
            let (state, base) = (state.clone(), [endpoint.clone(), store_address.clone()]);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (state, base) = (state.clone(), base.clone());
                    std::thread::spawn(move || serve(stream, &state, &base));
                }
            });
        }
        Self { endpoint, store: store_address, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Puts a model on the hub.
    pub(crate) fn publish(&self, id: &str, files: BTreeMap<String, Vec<u8>>) {
        self.state().models.insert(id.to_owned(), files);
    }
}

/// The commit that a content has.
pub(crate) fn commit(files: &BTreeMap<String, Vec<u8>>) -> String {
    let all: Vec<u8> = files.iter().flat_map(|(name, bytes)| [name.as_bytes(), bytes].concat()).collect();
    sha256(&all)[..40].to_owned()
}

fn serve(mut stream: TcpStream, state: &Mutex<State>, base: &[String; 2]) {
    let Some(request) = read(&stream) else { return };
    let mut answer = {
        let mut state = state.lock().unwrap();
        let authorization = request.headers.get("authorization").cloned();
        let address = format!("http://{}{}", request.headers["host"], request.path);
        state.requests.push((request.method.clone(), address, authorization));
        respond(&request, &mut state, base)
    };
    let length = answer.body.len();
    if !answer.headers.iter().any(|(name, _)| *name == "content-length") {
        answer.headers.push(("content-length", length.to_string()));
    }
    let mut head = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let body: &[u8] = if request.method == "HEAD" { &[] } else { &answer.body[..answer.sent.min(length)] };
    // The client may have gone: that is its right.
    let _ = stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(body));
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    // As stores do, refuse a body without a length.
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    assert!(!headers.contains_key("transfer-encoding"), "{method} {path} in chunks");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}

fn answer(status: u16, body: &Value) -> Answer {
    let body = body.to_string().into_bytes();
    Answer { status, headers: vec![("content-type", "application/json".into())], sent: usize::MAX, body }
}

fn respond(request: &Request, state: &mut State, base: &[String; 2]) -> Answer {
    let allowed = state.token.as_ref().is_none_or(|token| {
        request.headers.get("authorization").is_some_and(|header| *header == format!("Bearer {token}"))
    });
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    match (request.method.as_str(), parts.as_slice()) {
        (_, ["store", oid]) => store(request, state, oid),
        ("PUT", ["part", oid, number]) => {
            state.parts.insert(((*oid).to_owned(), number.parse().unwrap()), request.body.clone());
            let mut done = answer(200, &Value::Null);
            done.headers.push(("etag", format!("\"part-{number}\"")));
            done
        }
        _ if !allowed => answer(401, &json!({ "error": "Invalid username or password." })),
        ("GET", ["api", "models", owner, name, "revision", revision]) => {
            let Some(files) = state.models.get(&format!("{owner}/{name}")) else {
                return answer(404, &json!({ "error": "Repository not found" }));
            };
            if *revision != "main" && *revision != "refs%2Fpr%2F1" && *revision != commit(files) {
                return answer(404, &json!({ "error": "Invalid rev id" }));
            }
            let siblings: Vec<Value> = files.keys().map(|name| json!({ "rfilename": name })).collect();
            answer(
                200,
                &json!({ "id": format!("{owner}/{name}"), "sha": commit(files), "siblings": siblings }),
            )
        }
        ("GET" | "HEAD", [owner, name, "resolve", revision, file]) => {
            resolve(request, state, base, &format!("{owner}/{name}"), revision, file)
        }
        ("POST", rest) => upload(request, state, base, rest),
        _ => answer(404, &json!({ "error": "Not found" })),
    }
}

fn resolve(
    request: &Request,
    state: &State,
    base: &[String; 2],
    id: &str,
    revision: &str,
    file: &str,
) -> Answer {
    let files = &state.models[id];
    assert_eq!(revision, commit(files), "files are asked for at a commit");
    let Some(bytes) = files.get(file) else { return answer(404, &json!({ "error": "Entry not found" })) };
    let etag = state.etag.clone().unwrap_or_else(|| sha256(bytes));
    let revision = ("x-repo-commit", revision.to_owned());
    if file.ends_with(".safetensors") {
        return Answer {
            status: 302,
            headers: vec![
                revision,
                ("x-linked-etag", format!("\"{etag}\"")),
                ("x-linked-size", bytes.len().to_string()),
                ("location", format!("{}/store/{}", base[1], sha256(bytes))),
            ],
            body: Vec::new(),
            sent: usize::MAX,
        };
    }
    let etag = if state.etag.is_some() { etag } else { etag[..40].to_owned() };
    let headers = vec![revision, ("etag", format!("W/\"{etag}\""))];
    assert!(request.headers.get("range").is_none_or(|range| range == "bytes=0-"));
    Answer { status: 200, headers, body: bytes.clone(), sent: usize::MAX }
}

/// The store: contents by hash, in ranges; or an upload.
fn store(request: &Request, state: &mut State, oid: &str) -> Answer {
    if request.method == "PUT" {
        assert_eq!(request.headers["x-signed"], "yes", "headers of the batch answer are sent");
        assert_eq!(sha256(&request.body), oid);
        state.store.insert(oid.to_owned(), request.body.clone());
        return answer(200, &Value::Null);
    }
    let files = state.models.values().flat_map(|files| files.values());
    let bytes = files.into_iter().find(|bytes| sha256(bytes) == oid).unwrap().clone();
    let from: usize = match request.headers.get("range") {
        Some(range) => range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap(),
        None => 0,
    };
    let mut body = bytes[from..].to_vec();
    if state.lies {
        body[0] ^= 1;
    }
    let sent = state.cuts.pop().unwrap_or(usize::MAX);
    Answer { status: if from > 0 { 206 } else { 200 }, headers: Vec::new(), body, sent }
}

fn upload(request: &Request, state: &mut State, base: &[String; 2], path: &[&str]) -> Answer {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    match path {
        ["api", "repos", "create"] => {
            let id = format!("{}/{}", body["organization"].as_str().unwrap(), body["name"].as_str().unwrap());
            let there = state.created.contains(&id);
            state.created.push(id.clone());
            state.models.entry(id).or_default();
            if there {
                answer(409, &json!({ "error": "You already created this model repo" }))
            } else {
                answer(200, &json!({}))
            }
        }
        ["api", "models", _, _, "preupload", "main"] => {
            let mode = |file: &Value| {
                let path = file["path"].as_str().unwrap();
                assert!(!BASE64.decode(file["sample"].as_str().unwrap()).unwrap().is_empty(), "{path}");
                let mode = if path.ends_with(".safetensors") { "lfs" } else { "regular" };
                json!({ "path": path, "uploadMode": mode, "shouldIgnore": false })
            };
            let files: Vec<Value> = body["files"].as_array().unwrap().iter().map(mode).collect();
            answer(200, &json!({ "files": files }))
        }
        [_, name, "info", "lfs", "objects", "batch"] if name.ends_with(".git") => {
            assert_eq!(request.headers["accept"], "application/vnd.git-lfs+json");
            let object = |object: &Value| lfs_object(object, state, base);
            let objects: Vec<Value> = body["objects"].as_array().unwrap().iter().map(object).collect();
            answer(200, &json!({ "transfer": "multipart", "objects": objects }))
        }
        ["complete"] => {
            let oid = body["oid"].as_str().unwrap();
            let mut whole = Vec::new();
            for (n, part) in body["parts"].as_array().unwrap().iter().enumerate() {
                assert_eq!(*part, json!({ "partNumber": n + 1, "etag": format!("\"part-{}\"", n + 1) }));
                whole.extend_from_slice(&state.parts[&(oid.to_owned(), n + 1)]);
            }
            assert_eq!(sha256(&whole), oid);
            state.store.insert(oid.to_owned(), whole);
            answer(200, &json!({}))
        }
        ["verify"] => {
            let stored = &state.store[body["oid"].as_str().unwrap()];
            assert_eq!(json!(stored.len()), body["size"]);
            answer(200, &Value::Null)
        }
        ["api", "models", owner, name, "commit", "main"] => {
            assert_eq!(request.headers["content-type"], "application/x-ndjson");
            commit_lines(request, state, &format!("{owner}/{name}"));
            let address = format!("{}/{owner}/{name}/commit/0123", base[0]);
            answer(200, &json!({ "success": true, "commitUrl": address, "commitOid": "0123" }))
        }
        _ => answer(404, &json!({ "error": "Not found" })),
    }
}

fn lfs_object(object: &Value, state: &State, base: &[String; 2]) -> Value {
    let oid = object["oid"].as_str().unwrap();
    let size = object["size"].as_u64().unwrap() as usize;
    let mut answer = json!({ "oid": oid, "size": size });
    if state.store.contains_key(oid) {
        return answer;
    }
    let verify = json!({ "href": format!("{}/verify", base[0]) });
    if size <= PART {
        let upload = json!({ "href": format!("{}/store/{oid}", base[1]), "header": { "x-signed": "yes" } });
        answer["actions"] = json!({ "upload": upload, "verify": verify });
    } else {
        let mut header = json!({ "chunk_size": PART.to_string() });
        for number in 1..=size.div_ceil(PART) {
            header[format!("{number:05}")] = json!(format!("{}/part/{oid}/{number}", base[1]));
        }
        let upload = json!({ "href": format!("{}/complete", base[0]), "header": header });
        answer["actions"] = json!({ "upload": upload, "verify": verify });
    }
    answer
}

fn commit_lines(request: &Request, state: &mut State, id: &str) {
    let mut files = BTreeMap::new();
    for line in request.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line: Value = serde_json::from_slice(line).unwrap();
        let value = &line["value"];
        let path = value["path"].as_str().unwrap_or("").to_owned();
        match line["key"].as_str().unwrap() {
            "header" => assert_eq!(value["summary"], "a test"),
            "file" => drop(files.insert(path, BASE64.decode(value["content"].as_str().unwrap()).unwrap())),
            "lfsFile" => drop(files.insert(path, state.store[value["oid"].as_str().unwrap()].clone())),
            other => panic!("{other}"),
        }
    }
    state.models.get_mut(id).unwrap().extend(files);
}
