//! What peers of a swarm learn with: adapters, chat models and their critiques, settings that changed.

use std::fs;
use std::path::Path;

use policy::{ChatTemplate, ExportCard, Policy, Trainer, UpdateConfig};
use serde_json::Value;

use crate::peers::{Peer, alone, contents, murmur, peer_dir, records};
use crate::process::{Murmur, PATIENCE};

/// A chat model with random weights that was only taught to end its replies with a verdict: a coin.
fn write_chat_model(dir: &Path) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("policy/tests/fixtures/families/smollm2");
    fs::create_dir_all(dir).unwrap();
    for entry in fs::read_dir(&fixture).unwrap().map(|entry| entry.unwrap()) {
        fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
    }
    let config = fs::read_to_string(dir.join("config.json")).unwrap();
    let roomy = config.replace("\"max_position_embeddings\": 256", "\"max_position_embeddings\": 1024");
    assert_ne!(config, roomy);
    fs::write(dir.join("config.json"), roomy).unwrap();
    let mut policy = Policy::load(dir).unwrap();
    let template = ChatTemplate::load(dir).unwrap().unwrap();
    let mut trainer = Trainer::new(&policy, UpdateConfig::default());
    for step in 0..150 {
        let lesson = |n: usize| {
            let (a, b) = (11 + 7 * step % 80, 13 + 17 * n);
            let answer = format!("<answer>{}</answer>", a + b);
            let prompt = policy.critique_prompt(&template, &format!("add {a}+{b}"), &answer, 800).unwrap();
            let word = if n.is_multiple_of(2) { "right" } else { "wrong" };
            let mut reply = policy.encode(&format!("so\nVerdict: {word}"));
            reply.push(policy.config().eos_token_ids[0]);
            (prompt, reply)
        };
        let lessons: Vec<_> = (0..4).map(lesson).collect();
        trainer.supervise_ids(&mut policy, &lessons, 3e-3).unwrap();
    }
    policy.save(&dir.with_extension("taught"), &ExportCard::default()).unwrap();
    fs::copy(dir.with_extension("taught").join("model.safetensors"), dir.join("model.safetensors")).unwrap();
}

#[test]
fn a_chat_model_writes_critiques_beside_models_that_cannot_and_learns_from_them() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    write_chat_model(&dir.path().join("chat"));
    let mut bootstrap = String::new();
    let mut peers = Vec::new();
    for (name, base) in [("a", "amber"), ("b", "birch"), ("c", "chat")] {
        let text = Peer { name, base, bootstrap: &bootstrap, rounds: 4, ..Peer::default() }.text();
        // Every prompt is gold, so that every round tries candidates of both kinds.
        let text = text
            .replace("work_floor_ms", "critiques = \"train\"\nwork_floor_ms")
            .replace("[[swarm.packs]]", "[swarm.judge]\ngold_share_permille = 1000\n[[swarm.packs]]");
        fs::write(dir.path().join(format!("{name}.toml")), text).unwrap();
        let mut peer = Murmur::join(dir.path(), name);
        if base != "chat" {
            let why = format!("{base} has no chat template");
            peer.expect(PATIENCE, "the reason for no critiques", |line| line.starts_with(&why));
        }
        let own_name = if base == "chat" { peer.name() } else { String::new() };
        if name == "a" {
            bootstrap = peer.address();
        }
        peers.push((peer, own_name));
    }
    let critic = peers[2].1.clone();
    for (peer, _) in &mut peers {
        let (code, err) = peer.end();
        assert_eq!(code, 0, "{err}");
        assert!(err.contains("verdicts right"), "{err}");
    }

    // Every peer computed every critic's reward by itself, from messages alone, and all to the same.
    let [mut a, mut b, mut c] = ["a", "b", "c"].map(|peer| records(dir.path(), peer, "rounds.jsonl"));
    let trained: Vec<u64> =
        c.iter().map(|record| record["critiques"]["trained"].as_u64().unwrap_or(0)).collect();
    let losses: Vec<bool> = c.iter().map(|record| record["loss"][&critic].is_number()).collect();
    for record in a.iter_mut().chain(&mut b).chain(&mut c) {
        record["critiques"]["trained"] = Value::Null;
    }
    let mut rewards = Vec::new();
    for ((a, b), c) in a.iter().zip(&b).zip(&c) {
        let critiques = &a["critiques"];
        assert!(*critiques == b["critiques"] && *critiques == c["critiques"], "{a}\n{b}\n{c}");
        assert!(critiques["count"].as_u64().unwrap() > 4, "{a}");
        for said in critiques["said"].as_array().unwrap() {
            assert_eq!(said["critic"], critic.as_str(), "the others have no words: {said}");
            assert!(["right", "wrong", "unclear"].contains(&said["verdict"].as_str().unwrap()), "{said}");
        }
        rewards.extend(critiques["rewards"][&critic].as_f64());
    }
    assert_eq!(rewards.len(), 3, "gold of the round before, from round 2 on: {a:?}");
    assert!(rewards.iter().all(|reward| (-1.0..=1.0).contains(reward)));
    // Its own answers are noise, so only critiques can have taught it: those of a round once gold is drawn, and the
    // loss of that step stands in the round after.
    assert!(trained[0] == 0 && trained[1..].iter().sum::<u64>() > 0, "{trained:?}");
    let expected: Vec<bool> = [0].iter().chain(&trained[..3]).map(|groups| *groups > 0).collect();
    assert_eq!(losses, expected, "{trained:?}");

    let shown = |more: &[&str]| {
        let (out, err, code) = murmur(dir.path(), &[&["watch", "state-b/run", "--once"], more].concat());
        assert_eq!(code, 0, "{err}");
        out
    };
    let out = shown(&["--tab", "round"]);
    assert!(out.contains("Round 4 prompts") && out.contains("candidates by vote"), "{out}");
    let out = shown(&["--tab", "swarm", "--round", "2"]);
    assert!(out.contains("looking back at round 2") && out.contains(&critic), "{out}");
    let (out, _, _) = murmur(dir.path(), &["watch", "state-b/run", "--json"]);
    let view: Value = serde_json::from_str(&out).unwrap();
    assert!(view["rounds"][3]["critiques"]["skill"][&critic].is_number(), "{out}");
}

/// A policy directory of the project.
fn shipped(folder: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policy").join(folder).to_str().unwrap().to_owned()
}

#[test]
fn an_adapter_learns_and_a_chat_model_takes_part() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let start = |peer: Peer, more: &str| {
        let text =
            peer.text().replace("peers_min = 3", "peers_min = 4").replace("prompts = 6", "prompts = 16");
        fs::write(dir.path().join(format!("{}.toml", peer.name)), text + more).unwrap();
        Murmur::join(dir.path(), peer.name)
    };
    let rounds = 6;
    let mut a = start(Peer { rounds, ..Peer::default() }, "");
    let bootstrap = &a.address();
    let (birch, chat) = (&shipped("bases/birch"), &shipped("tests/fixtures/families/qwen2"));
    let adapter = "[lora]\nrank = 4\n[learning]\nlearning_rate = 3e-3\ngradient_checkpointing = true\n";
    let asked =
        "[lora]\nrank = 2\n[policy]\nthreads = 2\nsampling_weights = \"bf16\"\nsystem_prompt = \"\"\n";
    let mut b = start(Peer { name: "b", base: birch, bootstrap, rounds, ..Peer::default() }, adapter);
    let mut c = start(Peer { name: "c", base: chat, bootstrap, rounds, ..Peer::default() }, asked);
    let anchored = "[learning]\nbeta = 0.05\n";
    let mut d = start(Peer { name: "d", base: "cedar", bootstrap, rounds, ..Peer::default() }, anchored);
    for peer in [&mut a, &mut b, &mut c, &mut d] {
        let (code, err) = peer.end();
        assert_eq!(code, 0, "{err}");
        assert!(
            peer.told.iter().any(|line| line.starts_with("memory: this takes up to ")),
            "{:?}",
            peer.told
        );
    }
    assert!(c.told.iter().any(|line| line.contains("asks for repetition_penalty 1.1")), "{:?}", c.told);
    let steps = |peer: &str| {
        let rounds = records(dir.path(), peer, "rounds.jsonl");
        assert_eq!(rounds.len(), 6, "{peer}");
        let losses = rounds.iter().flat_map(|round| round["loss"].as_object().unwrap().values().cloned());
        losses.filter(Value::is_number).count()
    };
    assert!(steps("b") > 0, "the adapter took no step: {:?}", records(dir.path(), "b", "rounds.jsonl"));
    // What they learnt is computed again, to the bit: with an adapter, through a chat template, against a reference.
    for peer in ["b", "c", "d"] {
        let (out, err, code) =
            murmur(dir.path(), &["replay", &format!("state-{peer}/run"), "--verify", "--updates", "--json"]);
        let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
        assert!(code == 0 && report["logs"][0]["updates"]["outcome"] == "equal", "{peer}: {report}");
    }
    // The adapter goes on from its checkpoint, on the base it was put on; so does the one of the model that chats.
    for name in ["b", "c"] {
        let checkpoint = peer_dir(dir.path(), name).join("checkpoint");
        let before = contents(&checkpoint);
        let mut again = Murmur::join(dir.path(), name);
        again.expect(PATIENCE, "resuming", |line| line.starts_with("resuming from the checkpoint of round "));
        // All others have left.
        again.expect(PATIENCE, "its loop", |line| line.contains("cannot reach"));
        again.interrupt();
        let (code, err) = again.end();
        assert_eq!(code, 130, "{name}: {err}");
        assert!(contents(&checkpoint) == before, "{name}: nothing was learnt, so nothing is stored");
    }
}

#[test]
fn a_resumed_peer_takes_its_settings_from_the_config() {
    let dir = tempfile::tempdir().unwrap();
    // A single peer is a swarm too, and a quick one.
    let text = |rounds: u32, more: &str| {
        let alone = Peer { rounds, ..Peer::default() }.text().replace("peers_min = 3", "peers_min = 1");
        fs::write(dir.path().join("a.toml"), alone + more).unwrap();
        murmur(dir.path(), &["join", "a.toml", "--plain"])
    };
    let (_, err, code) = text(1, "[learning]\nbeta = 0.1\n");
    assert_eq!(code, 0, "{err}");
    let state = || {
        let text = fs::read_to_string(peer_dir(dir.path(), "a").join("checkpoint/trainer.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    assert_eq!(
        (&state()["counters"]["round"], &state()["config"]["max_completion_length"]),
        (&1.into(), &24.into())
    );
    // With a reference, which is the base and not the checkpoint; and with another learning rate.
    let (_, err, code) = text(2, "[learning]\nbeta = 0.2\nlearning_rate = 0.5\n");
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("resuming from the checkpoint of round 1"), "{err}");
    assert_eq!(
        (&state()["counters"]["round"], &state()["config"]["learning_rate"]),
        (&2.into(), &0.5.into())
    );
    // What was trained cannot become something else.
    let before = contents(&peer_dir(dir.path(), "a"));
    let (_, err, code) = text(3, "[lora]\nrank = 4\n");
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("was trained with no [lora], the config has [lora] rank = 4, alpha = 32"), "{err}");
    assert!(err.contains("hint: put [lora] back as it was"), "{err}");
    assert!(contents(&peer_dir(dir.path(), "a")) == before, "something was overwritten");
}
