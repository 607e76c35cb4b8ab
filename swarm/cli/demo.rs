//! `murmur demo`: a whole swarm on this machine, over real libp2p on loopback.
//!
//! Every peer is complete: identity, model, policy thread, network. They share this process and
//! nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use judge::PeerKey;
use policy::tensor::Device;
use policy::{Policy, Trainer, UpdateConfig};
use serde::Serialize;
use swarm::engine::Status;
use swarm::identity::Identity;
use swarm::manifest::{Critiques, FaultModel, Genesis, Manifest, PackPin, RoundRules};
use swarm::membership::Membership;
use swarm::net::{NetConfig, Network};
use tasks::{Catalogue, Item, Split};
use tokio::sync::{mpsc, watch};

use crate::args::{CritiquesName, DemoArgs};
use crate::compute::{PolicyConfig, SamplingConfig};
use crate::config::ConfigError;
use crate::critic::Critic;
use crate::evaluation::{self, Evaluation};
use crate::exit::{Interrupted, Outcome};
use crate::packs::PackSource;
use crate::peer::{self, PeerEnd};
use crate::record::{PeerInfo, PeerReport, RunDir, RunInfo};
use crate::setup::PeerSetup;
use crate::story::Story;
use crate::{card, clock, crash, dashboard, export, interrupt, outlet, packs, printer, proposals};

/// Items of each family in the evaluation before and after.
const PER_FAMILY: usize = 50;
/// News that may wait to be told.
const NEWS_MAX: usize = 1024;
/// Rounds between checkpoints: a demo that is stopped loses little.
const CHECKPOINT_EVERY: u32 = 10;

/// The object of `--json`.
#[derive(Debug, Serialize)]
struct Result {
    arm: &'static str,
    seed: u64,
    peers: usize,
    liars: usize,
    rounds: u32,
    accuracy: Accuracy,
    controls: Controls,
    vote_accuracy: Option<f64>,
    /// Only with text critiques.
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict_accuracy: Option<f64>,
    undecided: Option<f64>,
    overhead_ms_per_round: Option<f64>,
    wall_s: f64,
    cpu_s: f64,
    rss_mib: u64,
    run: PathBuf,
    export: PathBuf,
    /// Whose model it is.
    exported: String,
    /// How many items of each family were asked, in words.
    #[serde(skip)]
    items: String,
}

/// Over honest peers, test split.
#[derive(Debug, Serialize)]
struct Accuracy {
    before: f64,
    after: f64,
    after_min: f64,
    per_family: BTreeMap<String, [f64; 2]>,
}

#[derive(Debug, Serialize)]
struct Controls {
    forced_trace: f64,
    majority_16: f64,
}

/// One member of the demo.
struct Member {
    identity: Identity,
    base: String,
    policy: Policy,
    liar: bool,
}

/// Runs the command.
///
/// # Errors
/// A directory in the way, a pack that is wrong, a peer that fails.
pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    if args.liars >= args.peers {
        let message = format!("{} liars among {} peers leave nobody to learn", args.liars, args.peers);
        return Err(ConfigError::new("--liars", message, "choose fewer than --peers").into());
    }
    learning(args).check().map_err(|why| ConfigError::new("demo", why, "see --help"))?;
    let seed = args.seed.map_or_else(fresh_seed, Ok)?;
    let mut sources = packs::native();
    if !args.pack.is_empty() {
        printer::note(
            "tasks come from native:six too, which the embedded bases know, as often as from each --pack",
        );
    }
    sources.extend(args.pack.iter().map(|id| PackSource { id: id.clone(), weight: 1 }));
    let catalogue = packs::catalogue("--pack", &sources)?;
    let members = members(args, seed)?;
    let manifest = manifest(args, seed, &members, &catalogue);
    let out =
        args.out.clone().unwrap_or_else(|| PathBuf::from(format!("runs/demo-{seed}-{}", std::process::id())));
    let info = RunInfo {
        version: env!("CARGO_PKG_VERSION").into(),
        started: clock::now(),
        command: format!(
            "murmur demo --seed {seed} --peers {} --rounds {} --arm {}",
            args.peers,
            args.rounds,
            args.arm.name()
        ),
        arm: args.arm.name().into(),
        seed,
        swarm: manifest.id().to_string(),
        rounds: args.rounds,
        peers: members.iter().map(peer_info).collect(),
        packs: sources,
        join: String::new(),
    };
    let run = RunDir::create(&out, &info)?;
    printer::note(&format!(
        "{} peers on loopback, swarm {}, seed {seed}; run directory {}",
        members.len(),
        manifest.id().short(),
        out.display()
    ));
    crash::beside(run.path());
    outlet::let_go();
    let shown = dashboard::beside(&run, &info, args.plain || args.json)?;
    let test = catalogue.held_out(Split::Test, PER_FAMILY);
    let honest: Vec<&Member> = members.iter().filter(|member| !member.liar).collect();
    let before = in_parallel(&honest, |member| Ok(evaluation::evaluate(&member.policy, &test)?))?;
    let names: Vec<(String, String, bool)> =
        members.iter().map(|m| (m.identity.public().name(), m.base.clone(), m.liar)).collect();
    let controls = controls(&members, &test, seed)?;

    let local = members.iter().map(|member| member.identity.public()).collect();
    let mut story = Story::new(run.clone(), args.rounds, args.plain, local, liars(&members));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no event loop")?;
    let ends = runtime.block_on(play(args, &out, manifest, &catalogue, members, &mut story))?;
    if ends.iter().any(|end| end.stopped) {
        let hint = format!("what was learnt is saved: murmur export {}", out.display());
        return Err(Interrupted(hint).into());
    }

    let (after, validation) = measure(&ends, &names, &catalogue, &test)?;
    let peers = report_peers(&names, &before, &after, &validation);
    let (mean_before, mean_after) = (Evaluation::mean_of(&before), Evaluation::mean_of(&after));
    let mut result = Result {
        arm: args.arm.name(),
        seed,
        peers: names.len(),
        liars: usize::from(args.liars),
        rounds: ends.iter().map(|end| end.rounds).max().unwrap_or(0),
        accuracy: Accuracy {
            before: mean_before.mean,
            after: mean_after.mean,
            after_min: after.iter().map(|peer| peer.mean).fold(f64::INFINITY, f64::min),
            per_family: paired(&mean_before, &mean_after),
        },
        controls,
        vote_accuracy: story.vote_accuracy(),
        verdict_accuracy: story.verdict_accuracy(),
        undecided: story.undecided(),
        overhead_ms_per_round: story.overhead_ms(),
        wall_s: begun.elapsed().as_secs_f64(),
        cpu_s: clock::cpu_seconds(),
        rss_mib: clock::peak_memory_mib(),
        run: out.clone(),
        export: run.export(),
        exported: String::new(),
        items: evaluation::items_words(&test, PER_FAMILY),
    };
    write_report(&run, &result, &mean_before, &mean_after, peers)?;
    result.exported = export::export(&run, &info, None, export::DEFAULT, run.export())?.peer;
    result.wall_s = begun.elapsed().as_secs_f64();
    result.cpu_s = clock::cpu_seconds();
    if let Some(shown) = shown {
        shown.wait();
    }
    show(args, &result, &names, &before, &after)?;
    printer::note(&format!("look at it again: {}", dashboard::again(&out)));
    Ok(Outcome::Done)
}

/// How every peer of the demo learns.
fn learning(args: &DemoArgs) -> UpdateConfig {
    UpdateConfig {
        total_rounds: args.rounds,
        loss_temperature: args.loss_temperature,
        ..UpdateConfig::default()
    }
}

fn fresh_seed() -> anyhow::Result<u64> {
    let bytes = swarm::identity::entropy()?;
    // Six digits are enough to tell runs apart and short enough to type.
    Ok(u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])) % 1_000_000)
}

fn members(args: &DemoArgs, seed: u64) -> anyhow::Result<Vec<Member>> {
    let bases = if args.base.is_empty() {
        policy::bases().iter().map(|name| (*name).to_owned()).collect()
    } else {
        args.base.clone()
    };
    let count = usize::from(args.peers);
    let mut members = Vec::with_capacity(count);
    for index in 0..count {
        let mut key = blake3::Hasher::new_derive_key("murmur v1 demo identity");
        key.update(&seed.to_le_bytes()).update(&(index as u64).to_le_bytes());
        let base = bases.get(index % bases.len().max(1)).context("this build has no embedded base")?.clone();
        members.push(Member {
            identity: Identity::from_seed(*key.finalize().as_bytes()),
            policy: crate::model::open(&base, args.hub.offline)?.with_threads(1)?,
            base,
            // The last ones lie, so that every base has an honest peer.
            liar: index + usize::from(args.liars) >= count,
        });
    }
    Ok(members)
}

fn liars(members: &[Member]) -> Vec<PeerKey> {
    members.iter().filter(|member| member.liar).map(|member| member.identity.public()).collect()
}

fn peer_info(member: &Member) -> PeerInfo {
    let key = member.identity.public();
    PeerInfo { name: key.name(), key: key.hex(), base: member.base.clone() }
}

fn manifest(args: &DemoArgs, seed: u64, members: &[Member], catalogue: &Catalogue) -> Manifest {
    let pins = catalogue.packs().iter().map(|(pack, weight)| PackPin { id: pack.pin(), weight: *weight });
    Manifest {
        name: "demo".into(),
        seed: seed.to_string(),
        packs: pins.collect(),
        models: Vec::new(),
        faults: FaultModel::Auto,
        available: false,
        membership: Membership::default(),
        genesis: Genesis {
            peers: members.iter().map(|member| member.identity.public().hex()).collect(),
            peers_min: args.peers.into(),
        },
        round: RoundRules {
            prompts: args.prompts,
            completions: args.completions,
            temperature_permille: args.temperature_permille,
            critiques: match args.critiques {
                CritiquesName::Off => Critiques::Off,
                CritiquesName::Reputation => Critiques::Reputation,
                CritiquesName::Train => Critiques::Train,
            },
            ..RoundRules::default()
        },
        judge: judge::Rules {
            tau_permille: args.tau_permille,
            curriculum: args.curriculum.then(judge::CurriculumRules::default),
            ..judge::Rules::default()
        },
        parent: None,
    }
}

/// Runs all peers to their end, telling the story meanwhile.
async fn play(
    args: &DemoArgs,
    out: &Path,
    manifest: Manifest,
    catalogue: &Catalogue,
    members: Vec<Member>,
    story: &mut Story,
) -> anyhow::Result<Vec<PeerEnd>> {
    let (news_send, mut news) = mpsc::channel(NEWS_MAX);
    let (stop_send, stop) = watch::channel(false);
    let (status_send, mut status) = watch::channel(None::<Status>);
    let sampling = SamplingConfig::default()
        .of(&manifest.round, None)
        .map_err(|why| ConfigError::new("demo", why, "see --help"))?;
    let mut tasks = Vec::new();
    let mut bootstrap = Vec::new();
    for (index, member) in members.into_iter().enumerate() {
        let net = NetConfig {
            listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
            bootstrap: bootstrap.clone(),
            peers_expected: usize::from(args.peers),
            ..NetConfig::default()
        };
        let network = Network::bind(&member.identity, manifest.id(), net).await?;
        if bootstrap.is_empty() {
            bootstrap = network.listen_addresses();
        }
        let name = member.identity.public().name();
        let setup = PeerSetup {
            trainer: Trainer::new(&member.policy, learning(args)),
            // A liar's words would be honest: it writes none.
            critic: if member.liar { None } else { Critic::of(&member.base, &manifest.round)? },
            ticket: None,
            entropy: swarm::identity::entropy()?,
            identity: member.identity,
            base: member.base,
            manifest: manifest.clone(),
            catalogue: catalogue.clone(),
            network,
            policy: member.policy,
            resumed: None,
            computing: PolicyConfig::default(),
            device: Device::Cpu,
            sampling,
            arm: args.arm,
            lie: member.liar.then_some(args.lie),
            rounds: args.rounds,
            checkpoint: None,
            dir: out.join("peers").join(name),
            checkpoint_every: CHECKPOINT_EVERY,
            packs: Vec::new(),
            upload_bytes_per_s: 0,
            proposals: proposals::Policy::Never,
            notes: out.join("proposals"),
        };
        // Only the first peer's status is shown: the others stand in the same phase.
        let status_send = if index == 0 { status_send.clone() } else { watch::channel(None).0 };
        tasks.push(tokio::spawn(peer::run(setup, news_send.clone(), status_send, stop.clone())));
    }
    drop((news_send, status_send));
    let mut watching = true;
    let mut ctrl_c = interrupt::signals().context("no signal handler")?;
    loop {
        tokio::select! {
            heard = news.recv() => match heard {
                Some((peer, news)) => drop(story.hear(peer, news)?),
                None => break,
            },
            changed = status.changed(), if watching => match changed {
                Ok(()) => if let Some(status) = status.borrow_and_update().as_ref() { story.status(status)? },
                Err(_) => watching = false,
            },
            Some(()) = ctrl_c.recv() => {
                if stop_send.send_replace(true) {
                    interrupt::at_once();
                }
                printer::note("stopping; ctrl-c again stops at once");
            }
        }
    }
    story.end();
    let mut ends = Vec::new();
    for task in tasks {
        ends.push(task.await.context("a peer stopped unexpectedly")??);
    }
    Ok(ends)
}

/// The same on every item of a list, one thread each.
fn in_parallel<T: Sync, R: Send>(
    list: &[T],
    work: impl Fn(&T) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<Vec<R>> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = list.iter().map(|item| scope.spawn(move || work(item))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("an evaluation stopped unexpectedly"))?)
            .collect()
    })
}

/// What the bases could do without a swarm: each base once, however many peers start from it.
fn controls(members: &[Member], test: &[Item], seed: u64) -> anyhow::Result<Controls> {
    let mut bases: BTreeMap<&str, &Policy> = BTreeMap::new();
    for member in members {
        bases.insert(&member.base, &member.policy);
    }
    let key = blake3::derive_key("murmur v1 demo controls", &seed.to_le_bytes());
    let list: Vec<&Policy> = bases.into_values().collect();
    let measured = in_parallel(&list, |policy| {
        let forced = evaluation::forced_trace(policy, test)?.mean;
        Ok((forced, evaluation::majority_16(policy, test, 0.7, &key)?.majority.mean))
    })?;
    let n = measured.len().max(1) as f64;
    Ok(Controls {
        forced_trace: measured.iter().map(|(forced, _)| forced).sum::<f64>() / n,
        majority_16: measured.iter().map(|(_, majority)| majority).sum::<f64>() / n,
    })
}

/// Honest peers' accuracy after, on test and validation.
fn measure(
    ends: &[PeerEnd],
    names: &[(String, String, bool)],
    catalogue: &Catalogue,
    test: &[Item],
) -> anyhow::Result<(Vec<Evaluation>, Vec<f64>)> {
    let validation = catalogue.held_out(Split::Validation, PER_FAMILY);
    let honest: Vec<&Policy> =
        ends.iter().zip(names).filter(|(_, (_, _, liar))| !liar).map(|(end, _)| &end.policy).collect();
    let both = in_parallel(&honest, |policy| {
        Ok((evaluation::evaluate(policy, test)?, evaluation::evaluate(policy, &validation)?.mean))
    })?;
    Ok(both.into_iter().unzip())
}

fn report_peers(
    names: &[(String, String, bool)],
    before: &[Evaluation],
    after: &[Evaluation],
    validation: &[f64],
) -> BTreeMap<String, PeerReport> {
    let honest = names.iter().filter(|(_, _, liar)| !liar);
    let measured = honest.zip(before).zip(after).zip(validation);
    let mut peers: BTreeMap<String, PeerReport> = measured
        .map(|((((name, base, _), before), after), validation)| {
            let report = PeerReport {
                base: base.clone(),
                before: Some(before.clone()),
                after: Some(after.clone()),
                validation: Some(*validation),
            };
            (name.clone(), report)
        })
        .collect();
    for (name, base, _) in names.iter().filter(|(_, _, liar)| *liar) {
        // Never exported: a liar did not learn.
        let report = PeerReport { base: base.clone(), validation: Some(0.0), ..PeerReport::default() };
        peers.insert(name.clone(), report);
    }
    peers
}

fn paired(before: &Evaluation, after: &Evaluation) -> BTreeMap<String, [f64; 2]> {
    let after_of = |family: &String| after.per_family.get(family).copied().unwrap_or(0.0);
    before.per_family.iter().map(|(family, value)| (family.clone(), [*value, after_of(family)])).collect()
}

fn write_report(
    run: &RunDir,
    result: &Result,
    before: &Evaluation,
    after: &Evaluation,
    peers: BTreeMap<String, PeerReport>,
) -> anyhow::Result<()> {
    let mut object = serde_json::to_value(result)?;
    object["finished"] = true.into();
    object["before"] = serde_json::to_value(before)?;
    object["after"] = serde_json::to_value(after)?;
    object["members"] = object["peers"].take();
    object["peers"] = serde_json::to_value(peers)?;
    object["wall_seconds"] = result.wall_s.into();
    object["cpu_seconds"] = result.cpu_s.into();
    run.write_report(&object)
}

fn show(
    args: &DemoArgs,
    result: &Result,
    names: &[(String, String, bool)],
    before: &[Evaluation],
    after: &[Evaluation],
) -> anyhow::Result<()> {
    let honest = names.iter().filter(|(_, _, liar)| !liar);
    let labels: Vec<(String, String)> = honest
        .map(|(name, base, _)| (format!("{name} ({base}) before"), format!("{name} ({base}) after")))
        .collect();
    let mut rows: Vec<(&str, &Evaluation)> = Vec::new();
    for ((label, before), after) in labels.iter().zip(before).zip(after) {
        rows.extend([(label.0.as_str(), before), (label.1.as_str(), after)]);
    }
    let (mean_before, mean_after) = (Evaluation::mean_of(before), Evaluation::mean_of(after));
    rows.extend([("mean before", &mean_before), ("mean after", &mean_after)]);
    let percent = |share: Option<f64>| share.map_or("–".into(), |share| format!("{:.1} %", 100.0 * share));
    let verdicts = result.verdict_accuracy.map_or(String::new(), |share| {
        format!(", critics' verdicts right {:.1} % (chance 50)", 100.0 * share)
    });
    let text = format!(
        "\nheld-out greedy accuracy (test split, {})\n{}\n\n\
         base forced to reason {:.3}, base's majority of 16 {:.3}\n\
         vote accuracy {}{verdicts}, undecided {}, overhead {:.0} ms a round\n\
         {} rounds in {:.1} s, {:.0} processor seconds, {} MiB\n\
         exported to {}: {}, best on the validation split (its test figures stand above)",
        result.items,
        printer::table(&card::rows(&rows)),
        result.controls.forced_trace,
        result.controls.majority_16,
        percent(result.vote_accuracy),
        percent(result.undecided),
        result.overhead_ms_per_round.unwrap_or(0.0),
        result.rounds,
        result.wall_s,
        result.cpu_s,
        result.rss_mib,
        result.export.display(),
        result.exported,
    );
    if args.json {
        printer::note(&text);
        return Ok(printer::data(&serde_json::to_string(result)?)?);
    }
    Ok(printer::data(&text)?)
}
