//! What holds for this machine, whatever it is to join.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use policy::tensor::Device;
use policy::{InstructionSet, Policy, Sampling, instruction_set, memory};

use super::Finding;

/// Hash over four completions of an embedded base, with the bits of their log-probabilities: on every machine the
/// same, or peers could not audit one another.
pub(super) const KNOWN_ANSWER: &str = "ad9f3ae3b8107f24";
/// 2026-01-01, before which no copy of this program was made.
const MADE_S: u64 = 1_767_225_600;
/// How long the clock is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How far it may go wrong meanwhile.
const LOOK_ERROR: Duration = Duration::from_millis(50);
/// Memory that the smallest peer takes, with room for the system.
const MEMORY_MIN: u64 = 512 << 20;

pub(super) fn findings() -> Vec<Finding> {
    vec![processor(), numerics(), gpu(), memory(), clock()]
}

fn processor() -> Finding {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (set, name) = (instruction_set(), format!("{:?}", instruction_set()).to_lowercase());
    let what = format!("{cores} cores, {name}");
    if set == InstructionSet::Baseline && cfg!(target_arch = "x86_64") {
        return Finding::warn(
            "processor",
            what,
            "without AVX2 everything is right, and several times slower",
        );
    }
    Finding::pass("processor", what)
}

/// The answers that everybody must get.
pub(super) fn known_answer() -> policy::Result<String> {
    let policy = Policy::embedded("amber")?.with_threads(1)?;
    let sampling = Sampling { temperature: 0.7, new_tokens_max: 24, ..Sampling::default() };
    let groups = policy.rollout(&["add 417+201", "mod 487,6"], 2, &sampling, &[7; 32])?;
    let mut hasher = blake3::Hasher::new();
    for rollout in groups.iter().flat_map(|group| group.rollouts()) {
        let ids = rollout.completion.iter().flat_map(|id| id.to_le_bytes());
        let logprobs = rollout.logprobs.iter().flat_map(|logprob| logprob.to_bits().to_le_bytes());
        hasher.update(&ids.chain(logprobs).collect::<Vec<u8>>());
    }
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}

fn numerics() -> Finding {
    match known_answer() {
        Ok(answer) if answer == KNOWN_ANSWER => {
            Finding::pass("numerics", "a known rollout is the same to the bit")
        }
        Ok(answer) => Finding::fail(
            "numerics",
            format!("a known rollout is {answer} here, and {KNOWN_ANSWER} elsewhere"),
            "audits of this machine's answers would fail: check its memory, and report it with the line above",
        ),
        Err(error) => Finding::of_error("numerics", &error),
    }
}

fn gpu() -> Finding {
    let built = [("cuda", Device::Cuda(0)), ("metal", Device::Metal(0))];
    let built: Vec<&str> =
        built.into_iter().filter(|(_, device)| device.check().is_ok()).map(|(name, _)| name).collect();
    match built[..] {
        [] => Finding::pass("gpu", "this build computes on processors only"),
        _ => Finding::pass("gpu", format!("built for {}", built.join(" and "))),
    }
}

fn memory() -> Finding {
    match memory::available() {
        None => Finding::pass("memory", "the system does not say how much is free"),
        Some(free) if free < MEMORY_MIN => Finding::warn(
            "memory",
            format!("{} are free", memory::amount(free)),
            format!(
                "a peer with an embedded base takes some 300 MiB; close something to have {}",
                memory::amount(MEMORY_MIN)
            ),
        ),
        Some(free) => Finding::pass("memory", format!("{} are free", memory::amount(free))),
    }
}

/// Deadlines go by a clock that only runs forward; dates in records and certificates of TLS go by the other.
fn clock() -> Finding {
    let since = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (date, begun) = (since(), Instant::now());
    thread::sleep(LOOK);
    let (passed, ran) = (since().saturating_sub(date), begun.elapsed());
    let hint = "set it, and let the system keep it: timedatectl set-ntp true";
    if date.as_secs() < MADE_S {
        return Finding::warn(
            "clock",
            format!("it is {} by it, before this program was made", crate::clock::now()),
            hint,
        );
    }
    if passed.abs_diff(ran) > LOOK_ERROR {
        let what = format!("it moved {} ms in {} ms", passed.as_millis(), ran.as_millis());
        return Finding::warn("clock", what, hint);
    }
    Finding::pass("clock", crate::clock::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Grade;

    #[test]
    fn the_known_answer_is_known() {
        assert_eq!(known_answer().unwrap(), KNOWN_ANSWER);
        let failed: Vec<Finding> =
            findings().into_iter().filter(|finding| finding.grade == Grade::Fail).collect();
        assert_eq!(failed, []);
    }
}
