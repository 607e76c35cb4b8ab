//! An exported directory, read by Python transformers: the same ids, logits and greedy completions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use policy::Policy;
use serde_json::Value;

/// `policy/bases/amber` is itself an exported directory; `fixtures/transformers_logits.py` made the fixture
/// from it, and a changed base needs a new one.
#[test]
fn transformers_computes_the_same() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/transformers_logits.json")).unwrap();
    let policy = Policy::embedded("amber").unwrap();
    let v = policy.config().vocab_size;
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 20);
    let mut farthest = 0.0f32;
    for case in cases {
        let prompt = case["prompt"].as_str().unwrap();
        let numbers = |key: &str| case[key].as_array().unwrap().iter().map(|n| n.as_f64().unwrap() as f32);
        let ids: Vec<u32> = numbers("ids").map(|id| id as u32).collect();
        let mut ours = vec![policy.config().bos_token_id.unwrap()];
        ours.extend(policy.encode(prompt));
        assert_eq!(ours, ids, "{prompt}");
        let logits = policy.all_logits(&ids).unwrap();
        for (key, at) in [("last", ids.len() - 1), ("middle", ids.len() / 2)] {
            for (ours, theirs) in logits[at * v..(at + 1) * v].iter().zip(numbers(key)) {
                farthest = farthest.max((ours - theirs).abs());
            }
        }
        let greedy: Vec<u32> = numbers("greedy").map(|id| id as u32).collect();
        let completed = &policy.complete(&[prompt], "", 24).unwrap()[0];
        assert_eq!(completed.completion, greedy, "{prompt}");
    }
    assert!(farthest < 1e-4, "{farthest}");
    println!("largest difference of a logit: {farthest}");
}
