//! `murmur export --dataset`: what was said in a real run, out as data and in again as packs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ::swarm::log::{Reader, Record, Writer};
use ::swarm::manifest::Manifest;
use ::swarm::wire;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;

use crate::peers::alone;
use crate::process::{binary, run};
use crate::replay::{demo_identity, logs};

const SEED: u64 = 7;
const TABLES: [&str; 5] = ["prompts", "completions", "critiques", "votes", "labels"];

fn murmur(dir: &Path, args: &[&str]) -> (String, String, i32) {
    run(binary(args).current_dir(dir).env("MURMUR_PACKS", dir.join("store")))
}

fn json(dir: &Path, args: &[&str]) -> Value {
    let (out, err, code) = murmur(dir, &[args, &["--json"]].concat());
    assert_eq!(code, 0, "{args:?}: {out}{err}");
    serde_json::from_str(&out).unwrap()
}

fn rows(dir: &Path, table: &str) -> Vec<Value> {
    let text = fs::read_to_string(dir.join(format!("data/{table}.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_else(|| panic!("{field}: {row}"))
}

#[test]
fn a_run_goes_out_as_data_and_comes_back_as_packs() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_eq!(murmur(dir, &["task", "new", "sums"]).2, 0);
    let seed = SEED.to_string();
    let demo = ["demo", "--rounds", "2", "--prompts", "14", "--seed", &seed, "--plain", "--out", "run"];
    let (_, err, code) = murmur(dir, &[&demo[..], &["--pack", "sums"]].concat());
    assert_eq!(code, 0, "{err}");

    let exported = json(dir, &["export", "run", "--dataset", "data", "--parquet"]);
    as_parquet(&dir.join("data"), &exported);
    assert_eq!(exported["rounds"], 2, "{exported}");
    said(&dir.join("data"), &exported);
    for (at, (peer, _)) in logs(&dir.join("run")).iter().enumerate() {
        let other = json(dir, &["export", "run", "--dataset", &format!("data-{at}"), "--peer", peer]);
        assert!(other["dataset"] == exported["dataset"] && other["log"] == peer[..], "{other}");
    }
    back_again(dir, &exported);
    fork(dir, &exported);
    refused(dir);
}

/// The tables once more, as a reader of the same library finds them.
fn as_parquet(data: &Path, exported: &Value) {
    for table in TABLES {
        let file = fs::File::open(data.join(format!("parquet/{table}.parquet"))).unwrap();
        let found = SerializedFileReader::new(file).unwrap();
        let rows = rows(data, table);
        assert_eq!(exported["rows"][table], found.metadata().file_metadata().num_rows());
        for (row, expected) in found.get_row_iter(None).unwrap().zip(&rows) {
            let row = row.unwrap();
            assert_eq!(row.len(), expected.as_object().unwrap().len(), "{table}");
            for (name, field) in row.get_column_iter() {
                let field = match field {
                    Field::Null => Value::Null,
                    Field::Bool(flag) => (*flag).into(),
                    Field::Long(number) => (*number).into(),
                    Field::Str(text) => text.as_str().into(),
                    other => panic!("{table}: {name} is {other:?}"),
                };
                assert_eq!(field, expected[name], "{table}: {name}");
            }
        }
    }
    let sums = fs::read_to_string(data.join("B3SUMS")).unwrap();
    assert!(!sums.contains("parquet"), "the address does not depend on a library");
}

/// The tables hold what four peers said in two rounds.
fn said(data: &Path, exported: &Value) {
    let tables = TABLES.map(|table| rows(data, table));
    for (table, rows) in TABLES.iter().zip(&tables) {
        assert_eq!(exported["rows"][table], rows.len(), "{table}");
    }
    let [prompts, completions, critiques, votes, labels] = tables;
    assert_eq!((prompts.len(), labels.len()), (2 * 14, 2 * 14 * 4));
    let peers: BTreeSet<&str> = completions.iter().map(|row| text(row, "peer")).collect();
    assert_eq!((peers.len(), completions.len() % (2 * 14 * 4)), (4, 0));
    assert!(critiques.iter().all(|row| row["millinats"].is_i64() && row["verdict"].is_null()));
    assert!(votes.iter().all(|row| row["answer"].is_string() && row["weight_micro"].is_u64()));
    let right = completions.iter().filter(|row| row["correct"] == true).count();
    assert!(right > 0 && right < completions.len());
    for row in &completions {
        let prompt = prompts.iter().find(|prompt| {
            ["round", "position", "family", "item"].iter().all(|field| prompt[field] == row[field])
        });
        let right = row["answer"] == prompt.unwrap()["reference"];
        assert_eq!(row["correct"], right, "{row}");
    }
    let card = fs::read_to_string(data.join("README.md")).unwrap();
    for part in
        ["config_name: votes", "dtype: int64", "of 2 rounds (1 to 2)", "native:six", peers.first().unwrap()]
    {
        assert!(card.contains(part), "{part}: {card}");
    }
    for line in fs::read_to_string(data.join("B3SUMS")).unwrap().lines() {
        let (hash, path) = line.split_once("  ").unwrap();
        let content = fs::read(data.join(path)).unwrap();
        assert_eq!(blake3::hash(&content).to_hex().as_str(), hash, "{path}");
    }
}

/// Every family comes back as a pack of the same address, with the same items under the same ids.
fn back_again(dir: &Path, exported: &Value) {
    let prompts = rows(&dir.join("data"), "prompts");
    let packs = exported["packs"].as_array().unwrap();
    assert_eq!(packs.len(), 7, "{exported}");
    for pack in packs {
        let (name, address) = (text(pack, "name"), text(pack, "pack"));
        let added = json(dir, &["task", "add", &format!("data/packs/{name}")]);
        assert_eq!(text(&added, "pack"), address);
        let seen = json(dir, &["task", "preview", address, "--items", "40"]);
        let seen = seen.as_array().unwrap().iter();
        let seen: BTreeSet<_> = seen.map(|item| ["id", "prompt", "answer"].map(|f| text(item, f))).collect();
        let asked = prompts.iter().filter(|row| row["family"] == name);
        let asked: BTreeSet<_> =
            asked.map(|row| ["item", "prompt", "reference"].map(|f| text(row, f))).collect();
        assert_eq!(seen, asked);
    }
    // Half of the prompts are of this one, so its answers differ enough.
    let (out, err, code) = murmur(dir, &["task", "check", "data/packs/sums"]);
    assert_eq!(code, 0, "{out}{err}");
}

/// A fork with one item changed costs the file that the item is in.
fn fork(dir: &Path, exported: &Value) {
    let packs = exported["packs"].as_array().unwrap();
    let pack = packs.iter().find(|pack| pack["name"] == "sums").unwrap();
    assert_eq!(murmur(dir, &["task", "fork", text(pack, "pack"), "fork"]).2, 0);
    assert_eq!(json(dir, &["task", "add", "fork"])["files"], 1, "task.toml, which has another name");
    let items = dir.join("fork/items.jsonl");
    let changed = fs::read_to_string(&items).unwrap().replacen("What is", "How much is", 1);
    fs::write(&items, &changed).unwrap();
    let added = json(dir, &["task", "add", "fork"]);
    assert!(added["files"] == 1 && added["bytes"] == changed.len(), "{added}");
}

fn refused(dir: &Path) {
    let is = |args: &[&str], expected: i32, told: &str| {
        let (out, err, code) = murmur(dir, &[&["export"], args].concat());
        assert!(code == expected && out.is_empty() && err.contains(told), "{args:?}: {code} {out}{err}");
        let left = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(left.filter(|name| name.ends_with(".part") || name == "new").count(), 0);
    };
    is(&["run", "--dataset", "data"], 1, "data is not empty\nhint: ");
    is(&["run", "--dataset", "sums/task.toml"], 1, "cannot write to sums/task.toml");
    is(&["sums", "--dataset", "new"], 1, "sums is not a run: no run.json\nhint: ");
    is(&["run", "--dataset", "new", "--peer", "ghost"], 1, "has no log\nhint: its peers are ");
    is(&["run", "--dataset", "new", "--format", "peft"], 2, "cannot be used with");

    let (name, log) = &logs(&dir.join("run"))[1];
    let by_it = ["run", "--dataset", "new", "--peer", name];
    let good = fs::read(log).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(log, flipped).unwrap();
    is(&by_it, 1, "checksum");
    fs::write(log, &good).unwrap();

    let header = Reader::open(log).unwrap().next_frame().unwrap().unwrap().record;
    let Record::Header(header) = header else { panic!("{header:?}") };
    let owner = demo_identity(SEED, |identity| identity.public() == header.peer);
    let manifest: Manifest = wire::decode(&header.manifest, 1 << 16).unwrap();
    fs::remove_file(log).unwrap();
    Writer::open(log, &owner, &manifest).unwrap().0.close().unwrap();
    is(&by_it, 1, "holds no settled round\nhint: ");
    fs::write(log, good).unwrap();
    fs::create_dir(dir.join("empty")).unwrap();
    assert_eq!(murmur(dir, &["export", "run", "--dataset", "empty"]).2, 0, "an empty directory will do");
}
