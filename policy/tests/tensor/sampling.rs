//! Samples of the tensor path against the CPU engine's, and requests that it refuses.

use policy::{Policy, Sampling};

use crate::{PROMPTS, farthest, in_f32, llama, prompt_ids};

#[test]
fn greedy_tokens_equal_the_cpu_engine() {
    for tied in [true, false] {
        let policy = llama(tied);
        let sampling = Sampling { temperature: 0.0, new_tokens_max: 40, ..Sampling::default() };
        let ours = in_f32(&policy).rollout_ids(&prompt_ids(&policy), 2, &sampling, &[7; 32]).unwrap();
        for (ours, theirs) in ours.iter().zip(policy.complete(&PROMPTS, "", 40).unwrap()) {
            for ours in ours {
                assert_eq!(ours.tokens, theirs.completion);
                assert_eq!(ours.finished, theirs.finished);
                assert!(farthest(&ours.logprobs, &theirs.logprobs) < 1e-4);
            }
        }
    }
}

/// Checks that samples are the CPU engine's up to the first token that rounding changes, and how rare that is.
fn check_samples(policy: &Policy, sampling: &Sampling) {
    let tensors = in_f32(policy);
    let (mut same, mut all) = (0, 0);
    for seed in 0..4 {
        let ours = tensors.rollout_ids(&prompt_ids(policy), 16, sampling, &[seed; 32]).unwrap();
        let theirs = policy.rollout(&PROMPTS, 16, sampling, &[seed; 32]).unwrap();
        for (ours, theirs) in ours.iter().flatten().zip(theirs.iter().flat_map(|group| group.rollouts())) {
            let equal = ours.tokens.iter().zip(&theirs.completion).take_while(|(a, b)| a == b).count();
            assert!(farthest(&ours.logprobs[..equal], &theirs.logprobs[..equal]) < 1e-4);
            let differs = usize::from(equal < theirs.completion.len());
            assert!(differs == 1 || ours.finished == theirs.finished);
            same += equal;
            all += equal + differs;
        }
    }
    println!("{same} of {all} tokens up to the first difference are the CPU engine's: {sampling:?}");
    assert!(all > 4000 && same as f32 >= 0.99 * all as f32, "{same} of {all}: {sampling:?}");
}

#[test]
fn samples_equal_the_cpu_engine_up_to_rounding() {
    let policy = llama(true);
    let plain = Sampling { temperature: 1.3, new_tokens_max: 64, ..Sampling::default() };
    for sampling in [
        plain,
        Sampling { top_k: 5, ..plain },
        Sampling { top_p: 0.8, ..plain },
        Sampling { min_p: 0.2, ..plain },
        Sampling { top_k: 40, top_p: 0.9, min_p: 0.05, ..plain },
    ] {
        check_samples(&policy, &sampling);
    }
}

#[test]
fn filters_leave_the_likeliest_and_the_whole_distribution_s_log_probability() {
    let policy = llama(true);
    let (tensors, ids) = (in_f32(&policy), prompt_ids(&policy));
    let greedy = tensors.rollout_ids(&ids, 1, &Sampling::greedy(20), &[1; 32]).unwrap();
    let plain = Sampling { temperature: 0.7, new_tokens_max: 20, ..Sampling::default() };
    for sampling in [
        Sampling { top_k: 1, ..plain },
        Sampling { top_p: 0.0, ..plain },
        Sampling { min_p: 1.0, ..plain },
        // Greedy choice has nothing to filter.
        Sampling { top_k: 7, top_p: 0.5, ..Sampling::greedy(20) },
    ] {
        let filtered = tensors.rollout_ids(&ids, 1, &sampling, &[1; 32]).unwrap();
        let temperature = if sampling.temperature == 0.0 { 1.0 } else { sampling.temperature };
        for ((prompt, greedy), filtered) in ids.iter().zip(greedy.concat()).zip(filtered.concat()) {
            assert_eq!(filtered.tokens, greedy.tokens, "{sampling:?}");
            let exact = &tensors.logprobs(&[(prompt, &greedy.tokens)], temperature).unwrap()[0];
            assert!(farthest(&filtered.logprobs, exact) < 1e-4, "{sampling:?}");
        }
    }
}

#[test]
fn a_completion_depends_on_its_prompt_and_positions_only() {
    let policy = llama(false);
    let (tensors, ids) = (in_f32(&policy), prompt_ids(&policy));
    let sampling = Sampling { temperature: 1.0, new_tokens_max: 20, ..Sampling::default() };
    let together = tensors.rollout_ids(&ids, 4, &sampling, &[5; 32]).unwrap();
    let alone = tensors.rollout_ids(&ids[..1], 2, &sampling, &[5; 32]).unwrap();
    assert_eq!(alone[0][1].tokens, together[0][1].tokens);
    let long = vec![7; policy.config().context() - 5];
    let beside = tensors.rollout_ids(&[ids[0].clone(), long], 4, &sampling, &[5; 32]).unwrap();
    assert!(beside[0].iter().zip(&together[0]).all(|(a, b)| a.tokens == b.tokens));
    assert!(beside[1].iter().all(|sample| sample.finished || sample.tokens.len() == 5));
    let other = tensors.rollout_ids(&ids, 4, &sampling, &[6; 32]).unwrap();
    assert_ne!(other, together, "another seed, other samples");
    for (sample, prompt) in
        together.iter().zip(&ids).flat_map(|(group, ids)| group.iter().map(move |s| (s, ids)))
    {
        let again = &tensors.logprobs(&[(prompt, &sample.tokens)], 1.0).unwrap()[0];
        assert!(farthest(again, &sample.logprobs) < 1e-4);
        let ended = sample.tokens.iter().position(|id| policy.config().eos_token_ids.contains(id));
        assert_eq!(sample.finished, ended.is_some());
        assert_eq!(sample.tokens.len(), ended.map_or(20, |at| at + 1));
    }
}

#[test]
fn bad_requests_are_named() {
    let policy = llama(true);
    let tensors = in_f32(&policy);
    let sampling = Sampling { temperature: 1.0, new_tokens_max: 4, ..Sampling::default() };
    let too_long = vec![1; policy.config().max_position_embeddings + 1];
    for prompt in [vec![], vec![104], too_long] {
        let error = tensors.rollout_ids(&[vec![1, 2], prompt], 2, &sampling, &[0; 32]).unwrap_err();
        assert!(error.to_string().contains("sequence 1"), "{error}");
    }
    for (wrong, expected) in [
        (Sampling { temperature: -1.0, ..sampling }, "temperature is -1"),
        (Sampling { temperature: f32::NAN, ..sampling }, "temperature is NaN"),
        (Sampling { new_tokens_max: 0, ..sampling }, "new_tokens_max is 0"),
        (Sampling { top_p: 1.5, ..sampling }, "top_p is 1.5"),
        (Sampling { min_p: -0.1, ..sampling }, "min_p is -0.1"),
    ] {
        let error = tensors.rollout_ids(&[vec![1]], 1, &wrong, &[0; 32]).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let error = tensors.rollout_ids(&[vec![1]], 0, &sampling, &[0; 32]).unwrap_err();
    assert!(error.to_string().contains("empty group"), "{error}");
    assert!(tensors.rollout_ids(&[], 2, &sampling, &[0; 32]).unwrap().is_empty());
    let full = vec![vec![1; policy.config().max_position_embeddings]];
    assert_eq!(tensors.rollout_ids(&full, 1, &sampling, &[0; 32]).unwrap()[0][0].tokens, [0u32; 0]);
}
