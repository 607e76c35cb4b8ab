//! Task packs as their authors meet them: the page that explains them, and scripts that mean harm.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::process::{binary, run};

fn murmur(dir: &Path, args: &[&str]) -> (String, String, i32) {
    run(binary(args).current_dir(dir).env("MURMUR_PACKS", dir.join("store")))
}

/// A fenced block of a page: its language, its text, and the file that the line before it names.
struct Block {
    language: String,
    file: Option<String>,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut inside, mut before) = (false, "");
    for line in page.lines() {
        if let Some(language) = line.strip_prefix("```") {
            inside = !inside;
            if !inside {
                before = "";
            } else {
                let file = before.strip_suffix("`:").and_then(|text| text.rsplit('`').next());
                blocks.push(Block {
                    language: language.into(),
                    file: file.map(str::to_owned),
                    text: String::new(),
                });
            }
        } else if let Some(block) = blocks.last_mut().filter(|_| inside) {
            block.text += &format!("{line}\n");
        } else if !line.is_empty() {
            before = line;
        }
    }
    blocks
}

#[test]
fn the_page_about_tasks_works_as_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tasks/README.md")).unwrap();
    let (mut files, mut commands, mut checks) = (0, 0, 0);
    for block in blocks(&page) {
        if let Some(file) = block.file {
            fs::write(dir.path().join(file), block.text).unwrap();
            files += 1;
            continue;
        }
        assert_eq!(block.language, "sh", "{}", block.text);
        for line in block.text.lines() {
            let args: Vec<&str> = line.strip_prefix("murmur ").unwrap().split(' ').collect();
            let (out, err, code) = murmur(dir.path(), &args);
            assert_eq!(code, 0, "{line}\n{out}{err}");
            commands += 1;
            if args[1] == "check" {
                assert!(
                    out.ends_with("ok\n") && !out.contains("error") && !out.contains("duplicate"),
                    "{line}\n{out}"
                );
                checks += 1;
            }
        }
    }
    assert_eq!((files, commands, checks), (7, 11, 2));

    let (out, _, _) = murmur(dir.path(), &["task", "preview", "clock", "--items", "2", "--json"]);
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(shown.as_array().unwrap().len(), 6, "two of each of three levels");
    let (out, err, code) = murmur(dir.path(), &["task", "list", "--json"]);
    let listed: Value = serde_json::from_str(&out).unwrap();
    let names: Vec<&str> =
        listed.as_array().unwrap().iter().map(|pack| pack["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"capitals") && names.contains(&"more-capitals"), "{out}{err}{code}");
}

#[test]
fn a_fork_costs_what_it_changes_and_a_stored_pack_is_trained_on_by_its_address() {
    let dir = tempfile::tempdir().unwrap();
    let murmur = |args: &[&str]| murmur(dir.path(), args);
    assert_eq!(murmur(&["task", "new", "sums", "--script"]).2, 0);
    let (out, _, _) = murmur(&["task", "add", "sums", "--json"]);
    let added: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(added["files"], 4);
    let id = added["pack"].as_str().unwrap();
    assert_eq!(murmur(&["task", "hash", "sums"]).0.trim(), id);
    assert_eq!(murmur(&["task", "fork", id, "wider"]).2, 0);
    let (out, _, _) = murmur(&["task", "add", "wider", "--json"]);
    let fork: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(fork["files"], 1, "task.toml only: {out}");
    assert!(fs::read_to_string(dir.path().join("wider/task.toml")).unwrap().contains(id));

    let args = ["demo", "--rounds", "1", "--prompts", "8", "--pack", id, "--json", "--plain", "--out", "run"];
    let (out, err, code) = murmur(&args);
    assert_eq!(code, 0, "{err}");
    let result: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert!(result["accuracy"]["per_family"]["sums"].is_array(), "{result}");

    let args = ["eval", "amber", "--pack", "sums@0", "--pack", "native:gcd@1", "--per-family", "4", "--json"];
    let (out, err, code) = murmur(&args);
    assert_eq!(code, 0, "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let accuracy = &report["models"][0]["greedy"]["per_family"];
    assert!(
        accuracy["sums"].is_number() && accuracy["gcd"].is_number() && accuracy["add"].is_null(),
        "{out}"
    );

    let (_, err, code) = murmur(&["task", "check", &id.replace(&id[3..5], "00")]);
    assert!(code == 1 && err.contains("hint: "), "{err}");
    let (_, err, code) = murmur(&["task", "new", "sums"]);
    assert!(code == 1 && err.contains("is there already"), "{err}");
}

#[test]
fn answers_are_typed_and_scored() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(murmur(dir.path(), &["task", "new", "sums"]).2, 0);
    let (out, _, _) = murmur(dir.path(), &["task", "preview", "sums", "--items", "3", "--json"]);
    let shown: Value = serde_json::from_str(&out).unwrap();
    let mut command = binary(&["task", "play", "sums", "--items", "3"]);
    let command = command.current_dir(dir.path()).stdin(std::process::Stdio::piped());
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let typed = format!("{}\n1\nmany\n", shown[0]["answer"].as_str().unwrap());
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let out = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    for part in ["\nright\n", "\nwrong: ", "\nnot an answer of this form: ", "\n1 of 3 right\n"] {
        assert!(out.contains(part), "{part}: {out}");
    }
}

#[test]
fn a_hostile_script_is_stopped_and_harms_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(murmur(dir.path(), &["task", "new", "bad", "--script"]).2, 0);
    for (body, expected) in [
        ("loop { }", "task.rhai:1: level 0, item 0: takes more than 100000 units of fuel"),
        ("let s = \"x\"; loop { s += s; }", "too large"),
        ("let a = [1]; loop { a = [a, a]; }", "too large"),
        ("f(1) } fn f(x) { f(x)", "Stack overflow"),
        ("let a = filled(1, 500); loop { let b = a; }", "fuel"),
    ] {
        fs::write(dir.path().join("bad/task.rhai"), format!("fn generate(p) {{ {body} }}")).unwrap();
        let start = Instant::now();
        let (out, err, code) = murmur(dir.path(), &["task", "check", "bad"]);
        assert!(code == 1 && out.contains(expected) && out.contains("hint: "), "{body}: {out}{err}");
        assert!(start.elapsed().as_secs() < 10, "{body}");
        let (_, err, code) = murmur(dir.path(), &["task", "add", "bad"]);
        assert!(code == 1 && err.contains(expected), "{body}: {err}");
    }
    assert!(!dir.path().join("store").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_of_a_script_has_little_of_everything() {
    use std::io::{Read, Write};
    let dir = tempfile::tempdir().unwrap();
    let mut command = binary(&["script-worker"]);
    let command = command.current_dir(dir.path()).stdin(std::process::Stdio::piped());
    // What the allocator says at its end is not for this test's reader.
    let command = command.stderr(std::process::Stdio::null());
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let limits = format!("/proc/{}/limits", child.id());
    // The limits are set before anything is read, so they hold as soon as the second start is done.
    let deadline = Instant::now() + crate::process::PATIENCE;
    let limits = loop {
        let text = fs::read_to_string(&limits).unwrap();
        if text.lines().any(|line| line.starts_with("Max open files") && line.contains(" 16 ")) {
            break text;
        }
        assert!(Instant::now() < deadline, "{text}");
        std::thread::yield_now();
    };
    for (name, value) in [("Max data size", "67108864"), ("Max cpu time", "20"), ("Max file size", "0")] {
        assert!(limits.lines().any(|line| line.starts_with(name) && line.contains(value)), "{limits}");
    }
    // More than its memory: it fails and says nothing.
    let program = serde_json::json!({ "file": "task.rhai", "source": "fn generate(p) { 1 }", "levels": [{}], "count": 1,
        "data": { "words.txt": vec!["x"; 6_000_000] } });
    let _ = child.stdin.take().unwrap().write_all(program.to_string().as_bytes());
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(!child.wait().unwrap().success() && out.is_empty(), "{out}");
}
