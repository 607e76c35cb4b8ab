//! Models from a hub and to it, against one on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod server;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use policy::{ExportCard, Hub, HubId, ModelConfig, Policy, PushOptions};
use server::{Server, commit, sha256};
use tempfile::TempDir;

const ID: &str = "some-org/Tiny-1.5";

fn tiny() -> Policy {
    let config = ModelConfig { num_hidden_layers: 1, intermediate_size: 32, ..ModelConfig::default() };
    Policy::init(config, 1).unwrap()
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()))
        .collect()
}

/// A model on a hub, the hub, and an empty cache.
fn setup() -> (Server, Policy, TempDir) {
    let (server, policy, folder) = (Server::start(), tiny(), tempfile::tempdir().unwrap());
    policy.save(&folder.path().join("model"), &ExportCard::default()).unwrap();
    server.publish(ID, files(&folder.path().join("model")));
    (server, policy, folder)
}

fn hub(server: &Server, folder: &TempDir) -> Hub {
    Hub::new(&server.endpoint, &folder.path().join("cache"))
}

fn id(revision: &str) -> HubId {
    HubId::parse(&format!("{ID}{revision}")).unwrap()
}

fn fetch(hub: &Hub, id: &HubId) -> Result<(PathBuf, Vec<String>), String> {
    let mut told = Vec::new();
    let dir = hub.fetch(id, &mut |name, done, bytes| {
        assert!(done <= bytes, "{name}: {done} of {bytes}");
        if told.last().is_none_or(|last| last != name) {
            told.push(name.to_owned());
        }
    });
    dir.map(|dir| (dir, told)).map_err(|error| error.to_string())
}

fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn a_model_is_downloaded_once_and_then_needs_no_network() {
    let (server, policy, folder) = setup();
    let hub = hub(&server, &folder);
    assert_eq!(hub.missing(&id("")), ["config.json", "tokenizer.json", "model.safetensors"]);
    let (dir, told) = fetch(&hub, &id("")).unwrap();
    let wanted = [
        "config.json",
        "tokenizer.json",
        "generation_config.json",
        "tokenizer_config.json",
        "model.safetensors",
    ];
    assert_eq!(told, wanted, "nothing else is downloaded");
    assert_eq!(Policy::load(&dir).unwrap().hash(), policy.hash());
    assert_eq!(hub.missing(&id("")), Vec::<String>::new());

    let before = server.state().requests.len();
    assert_eq!(fetch(&hub, &id("")).unwrap(), (dir.clone(), Vec::new()));
    assert_eq!(server.state().requests.len(), before + 1, "only the branch is asked for again");
    let offline = hub.clone().offline(true);
    assert_eq!(fetch(&offline, &id("")).unwrap().0, dir);
    let pinned = format!("@{}", commit(&server.state().models[ID]));
    assert_eq!(fetch(&hub, &id(&pinned)).unwrap().0, dir, "a commit never changes");
    assert_eq!(server.state().requests.len(), before + 1);

    let unreachable = Hub::new(&closed(), &folder.path().join("cache"));
    assert_eq!(fetch(&unreachable, &id("")).unwrap().0, dir, "what is in the cache will do");
}

#[test]
fn a_branch_that_moves_is_followed_and_equal_files_are_kept() {
    let (server, _, folder) = setup();
    let hub = hub(&server, &folder);
    let (old, _) = fetch(&hub, &id("@refs/pr/1")).unwrap();
    server.state().models.get_mut(ID).unwrap().insert("chat_template.jinja".into(), b"{{ x }}".to_vec());
    let (new, told) = fetch(&hub, &id("@refs/pr/1")).unwrap();
    assert_ne!(old, new);
    assert_eq!(told, ["chat_template.jinja"]);
    let before = old.file_name().unwrap().to_str().unwrap();
    assert_eq!(fetch(&hub, &id(&format!("@{before}"))).unwrap().0, old);
}

#[test]
fn shards_are_found_by_their_index() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/qwen2");
    let (server, _, folder) = setup();
    let mut all = files(&fixtures);
    all.insert("tokenizer.json".into(), policy::char_level_json().into_bytes());
    server.publish(ID, all.clone());
    let hub = hub(&server, &folder);
    let (dir, told) = fetch(&hub, &id("")).unwrap();
    assert_eq!(told.iter().filter(|name| name.ends_with(".safetensors")).count(), 2, "{told:?}");
    Policy::load(&dir).unwrap();
    fs::remove_file(dir.join("model-00002-of-00002.safetensors")).unwrap();
    assert_eq!(hub.missing(&id("")), ["model-00002-of-00002.safetensors"]);
    let error = fetch(&hub.clone().offline(true), &id("")).unwrap_err();
    assert!(error.contains("not in the cache: model-00002-of-00002.safetensors\nhint: "), "{error}");

    let evil = br#"{"weight_map": {"a": "../../../secret.safetensors"}}"#.to_vec();
    all.insert("model.safetensors.index.json".into(), evil);
    server.publish(ID, all.clone());
    let error = fetch(&hub, &id("")).unwrap_err();
    assert!(error.contains("\"../../../secret.safetensors\" is no plain name"), "{error}");
    all.remove("model.safetensors.index.json");
    server.publish(ID, all);
    let error = fetch(&hub, &id("")).unwrap_err();
    assert!(error.contains("has no weights in safetensors"), "{error}");
}

#[test]
fn a_broken_transfer_is_taken_up_where_it_broke() {
    let (server, policy, folder) = setup();
    server.state().cuts = vec![300, 40_000, 1000];
    let (dir, _) = fetch(&hub(&server, &folder), &id("")).unwrap();
    assert_eq!(Policy::load(&dir).unwrap().hash(), policy.hash());

    // More breaks than are borne: what came is kept for the next time.
    let later = TempDir::new().unwrap();
    server.state().cuts = vec![100; 4];
    let error = fetch(&hub(&server, &later), &id("")).unwrap_err();
    assert!(error.contains("downloading model.safetensors: no connection"), "{error}");
    let blobs = later.path().join("cache/models--some-org--Tiny-1.5/blobs");
    let mut part = fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path());
    let part = part.find(|path| path.extension().is_some_and(|ext| ext == "part")).unwrap();
    assert_eq!(fs::metadata(part).unwrap().len(), 400);
    let (dir, told) = fetch(&hub(&server, &later), &id("")).unwrap();
    assert_eq!(
        (Policy::load(&dir).unwrap().hash(), told.as_slice()),
        (policy.hash(), &["model.safetensors".into()][..])
    );
}

#[test]
fn damaged_and_hostile_answers_are_refused() {
    let (server, _, folder) = setup();
    server.state().lies = true;
    let error = fetch(&hub(&server, &folder), &id("")).unwrap_err();
    assert!(error.contains("model.safetensors arrived damaged: its SHA-256 differs"), "{error}");
    assert!(hub(&server, &folder).cached(&id("")).is_err(), "a failed download leaves no model");
    server.state().lies = false;
    fetch(&hub(&server, &folder), &id("")).unwrap();

    for etag in ["../../evil", "", "a/b", ".."] {
        let folder = TempDir::new().unwrap();
        server.state().etag = Some(etag.into());
        let error = fetch(&hub(&server, &folder), &id("")).unwrap_err();
        assert!(error.contains("no usable ETag"), "{etag}: {error}");
    }
    server.state().etag = None;
    let folder = TempDir::new().unwrap();
    server.state().models.get_mut(ID).unwrap().insert("config.json".into(), vec![b' '; 2 << 20]);
    let error = fetch(&hub(&server, &folder), &id("")).unwrap_err();
    assert!(error.contains("config.json has 2097152 bytes where at most 1048576 are taken"), "{error}");
}

#[test]
fn errors_say_what_to_do() {
    let (server, _, folder) = setup();
    let start = Instant::now();
    let error = fetch(&Hub::new(&closed(), &folder.path().join("cache")), &id("")).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(error.starts_with(ID) && error.contains("no connection to http://127.0.0.1:"), "{error}");
    assert!(error.contains("\nhint: check the network and HF_ENDPOINT"), "{error}");

    let hub = hub(&server, &folder);
    let error = fetch(&hub, &HubId::parse("some-org/absent").unwrap()).unwrap_err();
    assert!(error.contains("the hub answers 404 Repository not found\nhint: check the name"), "{error}");
    let error = fetch(&hub, &id("@v9")).unwrap_err();
    assert!(error.contains("@v9") && error.contains("404 Invalid rev id"), "{error}");
    let error = fetch(&hub.clone().offline(true), &id("")).unwrap_err();
    assert!(error.contains("not in the cache: config.json, tokenizer.json, model.safetensors"), "{error}");
    server.state().token = Some("hf_right".into());
    let error = fetch(&hub, &id("")).unwrap_err();
    assert!(error.contains("401") && error.contains("set HF_TOKEN"), "{error}");
    let error = fetch(&hub.with_token("hf_wrong").unwrap(), &id("")).unwrap_err();
    assert!(error.contains("the token may use it") && !error.contains("hf_wrong"), "{error}");
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_its_store() {
    let (server, _, folder) = setup();
    server.state().token = Some("hf_right".into());
    fetch(&hub(&server, &folder).with_token("hf_right").unwrap(), &id("")).unwrap();
    let state = server.state();
    let stored: Vec<_> =
        state.requests.iter().filter(|(_, address, _)| address.starts_with(&server.store)).collect();
    assert_eq!(stored.len(), 1, "{stored:?}");
    for (_, address, authorization) in &state.requests {
        let expected = (!address.starts_with(&server.store)).then_some("Bearer hf_right");
        assert_eq!(authorization.as_deref(), expected, "{address}");
    }
}

#[test]
fn a_pushed_directory_comes_back() {
    let (server, _, folder) = setup();
    let config = ModelConfig { num_hidden_layers: 1, ..ModelConfig::default() };
    let policy = Policy::init(config, 2).unwrap();
    let out = folder.path().join("out");
    policy.save(&out, &ExportCard { readme: "A model.\n".into(), ..ExportCard::default() }).unwrap();
    fs::write(out.join(".hidden"), "not this").unwrap();
    fs::write(out.join("empty.txt"), "x").unwrap();
    fs::write(out.join("small.safetensors"), [7; 1000]).unwrap();
    fs::create_dir(out.join("folder")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("/etc/hostname", out.join("link.txt")).unwrap();
    let target = HubId::parse("some-org/pushed").unwrap();
    let mut options = PushOptions { private: true, message: "a test".into(), dry_run: true };
    let hub = hub(&server, &folder);

    let listed = hub.clone().offline(true).push(&out, &target, &options).unwrap();
    assert_eq!(listed.commit, None);
    assert_eq!(server.state().requests.len(), 0, "a dry run does not use the network");
    let names: Vec<&str> = listed.files.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "README.md",
        "config.json",
        "empty.txt",
        "generation_config.json",
        "model.safetensors",
        "small.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names, expected);
    let weights = listed.files.iter().find(|(name, _)| name == "model.safetensors").unwrap().1;
    assert_eq!(weights, fs::metadata(out.join("model.safetensors")).unwrap().len());
    assert!(weights as usize > 2 * server::PART, "several parts");

    options.dry_run = false;
    let error = hub.push(&out, &target, &options).unwrap_err().to_string();
    assert!(error.contains("uploading needs a token\nhint: set HF_TOKEN"), "{error}");
    server.state().token = Some("hf_write".into());
    let hub = hub.with_token("hf_write").unwrap();
    for _ in 0..2 {
        let pushed = hub.push(&out, &target, &options).unwrap();
        assert_eq!(pushed.files, listed.files);
        assert_eq!(pushed.commit.unwrap(), format!("{}/some-org/pushed/commit/0123", server.endpoint));
    }
    let puts = server.state().requests.iter().filter(|(method, ..)| method == "PUT").count();
    assert_eq!(puts as u64, 1 + weights.div_ceil(server::PART as u64), "the second time the store has them");
    assert!(
        server
            .state()
            .requests
            .iter()
            .filter(|(method, ..)| method == "PUT")
            .all(|(.., token)| token.is_none())
    );
    let stored = server.state().models["some-org/pushed"].clone();
    assert_eq!(sha256(&stored["small.safetensors"]), sha256(&[7; 1000]));
    assert_eq!(stored.keys().map(String::as_str).collect::<Vec<_>>(), expected);
    let (dir, _) = fetch(&hub, &target).unwrap();
    assert_eq!(Policy::load(&dir).unwrap().hash(), policy.hash());
}
