//! An adapter that learns on the tensor path.

use policy::tensor::TensorTrainer;
use policy::{Adapter, Trainer, UpdateConfig};

use crate::{
    adapted, encoded, farthest, in_f32, llama, named, norm, pairs, prompt_ids, relative, slices, ways,
};

/// a · b of matrices `[n, k]` and `[k, m]` by their elements.
fn product(
    n: usize,
    k: usize,
    m: usize,
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
) -> Vec<f32> {
    (0..n * m).map(|at| (0..k).map(|i| a(at / m, i) * b(i, at % m)).sum()).collect()
}

/// A and B of the matrix of this name.
fn factors(adapter: &Adapter, name: &str) -> Option<[Vec<f32>; 2]> {
    let find = |letter: char| {
        let name = format!("base_model.model.{}.lora_{letter}.weight", name.strip_suffix(".weight")?);
        let parameter = adapter.parameters().iter().find(|parameter| parameter.name == name)?;
        Some(adapter.values(parameter))
    };
    Some([find('A')?, find('B')?])
}

#[test]
fn an_adapter_alone_learns_and_its_gradient_is_the_chain_rule_s() {
    const RANK: usize = 3;
    let policy = llama(true);
    let adapted = adapted(&policy, RANK);
    let adapter = adapted.adapter().unwrap();
    let encoded = encoded(&policy);
    let mut tensors = in_f32(&adapted);
    let merged = adapted.merged();
    let ids = &prompt_ids(&policy)[0];
    let logits = tensors.logits(ids).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!(farthest(&logits, &merged.all_logits(ids).unwrap()) < 1e-4);

    let (_, dense) = Trainer::imitation_gradient(&merged, &pairs(), UpdateConfig::default()).unwrap();
    for config in ways(&UpdateConfig::default()) {
        let (_, gradient) = TensorTrainer::imitation_gradient(&tensors, &encoded, &config).unwrap();
        let gradient = named(&adapted, &gradient);
        for target in policy.layout().parameters() {
            let Some([a, b]) = factors(adapter, &target.name) else { continue };
            let dw = policy.layout().values(&dense, target);
            let (out, width) = (target.shape[0], target.shape[1]);
            let da = product(RANK, out, width, |r, o| b[o * RANK + r], |o, i| dw[o * width + i]);
            let db = product(out, width, RANK, |o, i| dw[o * width + i], |i, r| a[r * width + i]);
            for (letter, expected) in [('A', da), ('B', db)] {
                let name = target.name.replace(".weight", &format!(".lora_{letter}.weight"));
                let (name, values) = gradient.iter().find(|(found, _)| found.ends_with(&name)).unwrap();
                let expected: Vec<f32> = expected.into_iter().map(|g| adapter.config().scale() * g).collect();
                assert!(norm(values) > 0.0);
                let error = relative(values, &expected);
                assert!(error < 1e-4, "{name}: {error}");
            }
        }
    }

    let base = tensors.base_logprobs(&slices(&encoded), 1.0).unwrap();
    let config = ways(&UpdateConfig::default())[1].clone();
    let mut trainer = TensorTrainer::new(&tensors, &Trainer::new(&adapted, config)).unwrap();
    let first = trainer.supervise_ids(&mut tensors, &encoded, 1e-2).unwrap();
    let mut last = first;
    for _ in 0..10 {
        last = trainer.supervise_ids(&mut tensors, &encoded, 1e-2).unwrap();
    }
    assert!(last < 0.9 * first, "{first} {last}");
    assert_eq!(tensors.base_logprobs(&slices(&encoded), 1.0).unwrap(), base, "the base stays");
    let plain = in_f32(&policy).logprobs(&slices(&encoded), 1.0).unwrap();
    assert!(farthest(&plain.concat(), &base.concat()) < 1e-5);
    let mut written = adapted.clone();
    tensors.write_back(&mut written).unwrap();
    assert_eq!(written.without_adapter().hash(), policy.hash());
    assert_eq!(written.version(), adapted.version() + 1);
    for parameter in adapter.parameters() {
        let trained = written.adapter().unwrap().values(parameter);
        assert_ne!(trained, adapter.values(parameter), "{}", parameter.name);
    }
    let again = in_f32(&written).logprobs(&slices(&encoded), 1.0).unwrap();
    assert_eq!(tensors.logprobs(&slices(&encoded), 1.0).unwrap(), again);
    tensors.read(&adapted).unwrap();
    let before = in_f32(&adapted).logprobs(&slices(&encoded), 1.0).unwrap();
    assert_eq!(tensors.logprobs(&slices(&encoded), 1.0).unwrap(), before);
}
