//! `murmur export --dataset`: what was said in a run, as open data.
//!
//! ```text
//! DIR/README.md               the dataset's card
//! DIR/data/prompts.jsonl      and completions, critiques, votes, labels: the tables
//! DIR/packs/FAMILY/           the items of a family as a static task pack
//! DIR/B3SUMS                  BLAKE3 of the files above; the hash of this list is the dataset's address
//! DIR/parquet/prompts.parquet with --parquet: the tables once more
//! ```
//! Everything follows from certificates: logs with the same rounds give the same bytes.

mod card;
mod parquet;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use judge::{AcceptedPack, PackKey, PeerKey};
use serde::Serialize;
use swarm::replay::Transcript;
use tasks::{PackFiles, StaticPack};

use crate::args::ExportArgs;
use crate::exit::Outcome;
use crate::printer::Progress;
use crate::{logs, printer};
use card::Card;
use tables::Writer;

/// Context of the dataset's address, of BLAKE3's key derivation.
const ADDRESS: &str = "murmur v1 dataset";

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Exported {
    out: PathBuf,
    /// Content address.
    dataset: String,
    /// Whose log it is from.
    log: String,
    rounds: usize,
    /// Rows by table.
    rows: BTreeMap<&'static str, u64>,
    packs: Vec<WrittenPack>,
}

/// A pack of the dataset.
#[derive(Debug, Serialize)]
struct WrittenPack {
    name: String,
    /// Content address.
    pack: String,
    items: usize,
    /// Distinct items at most that did not fit into it.
    left_out: u64,
}

/// Runs the command.
///
/// # Errors
/// No log, or one in which something does not follow; no round has settled; the directory is not empty.
pub(crate) fn run(args: &ExportArgs, out: &Path) -> anyhow::Result<Outcome> {
    refuse_occupied(out)?;
    let (log, replayed) = logs::fullest(&args.run, args.peer.as_deref(), None)?;
    if replayed.rounds.is_empty() {
        bail!(
            "the log of {} holds no settled round\nhint: wait for the end of a round",
            replayed.peer.name()
        );
    }
    let staging = Staging::beside(out)?;
    let mut gathered = Gathered::new(&staging.path)?;
    let mut progress = Progress::new();
    log.transcripts(|transcript| {
        progress.show(|| format!("round {}", transcript.settled.round));
        gathered.add(&transcript)
    })?;
    progress.finish(&format!("{} rounds read", gathered.rounds.len()));
    let Gathered { tables, rounds, peers, taken_in, packs } = gathered;
    let rows = tables.finish()?;
    let packs = write_packs(&staging.path, packs)?;
    let card = Card {
        manifest: &replayed.manifest,
        rounds: &rounds,
        peers: &peers,
        rows: &rows,
        packs: &packs,
        taken_in: &taken_in,
    };
    write(&staging.path.join("README.md"), card.text().as_bytes())?;
    let dataset = write_sums(&staging.path)?;
    if args.parquet {
        parquet::write(&staging.path)?;
    }
    staging.commit(out)?;
    let (out, log) = (out.to_path_buf(), replayed.peer.name());
    show(args, &Exported { out, dataset, log, rounds: rounds.len(), rows, packs })?;
    Ok(Outcome::Done)
}

fn show(args: &ExportArgs, exported: &Exported) -> anyhow::Result<()> {
    let Exported { out, dataset, log, rounds, rows, packs } = exported;
    if args.json {
        printer::json(exported)?;
    } else {
        let mut table = vec![vec!["table".to_owned(), "rows".into()]];
        table.extend(rows.iter().map(|(name, rows)| vec![(*name).to_owned(), rows.to_string()]));
        printer::data(&format!("{}\n{dataset}", printer::table(&table)))?;
    }
    for pack in packs.iter().filter(|pack| pack.left_out > 0) {
        printer::note(&format!("packs/{} is full: {} items are in no pack", pack.name, pack.left_out));
    }
    let shown = out.display();
    let next = packs
        .first()
        .map_or(String::new(), |pack| format!("\nnext: murmur task add {shown}/packs/{}", pack.name));
    printer::note(&format!("{rounds} rounds by the log of {log} are in {shown}{next}"));
    Ok(())
}

/// What is gathered round by round.
struct Gathered {
    tables: Writer,
    rounds: Vec<u32>,
    peers: BTreeSet<PeerKey>,
    /// Packs that the swarm had taken in after the last round.
    taken_in: BTreeMap<PackKey, AcceptedPack>,
    /// By family, with the number of items that did not fit.
    packs: BTreeMap<String, (StaticPack, u64)>,
}

impl Gathered {
    fn new(dir: &Path) -> anyhow::Result<Self> {
        let data = dir.join("data");
        fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        let tables = Writer::create(&data)?;
        Ok(Self {
            tables,
            rounds: Vec::new(),
            peers: BTreeSet::new(),
            taken_in: BTreeMap::new(),
            packs: BTreeMap::new(),
        })
    }

    fn add(&mut self, transcript: &Transcript) -> anyhow::Result<()> {
        let settled = &transcript.settled;
        if self.rounds.last().is_some_and(|last| *last >= settled.round) {
            let round = settled.round;
            bail!("the log settles round {round} twice\nhint: export by another peer's log: --peer NAME");
        }
        self.rounds.push(settled.round);
        self.peers.extend(&settled.roster);
        self.taken_in.clone_from(&settled.settlement.next.packs.accepted);
        for item in &settled.schedule {
            let family = item.family().to_owned();
            let (pack, left_out) = self.packs.entry(family).or_insert_with(|| (StaticPack::of(item), 0));
            *left_out += u64::from(!pack.add(item));
        }
        self.tables.add(transcript)
    }
}

fn write_packs(dir: &Path, packs: BTreeMap<String, (StaticPack, u64)>) -> anyhow::Result<Vec<WrittenPack>> {
    let mut written = Vec::with_capacity(packs.len());
    for (name, (pack, left_out)) in packs {
        let items = pack.items();
        let files = pack.files(&format!(
            "# {name}\n\n{items} items that a swarm was asked, written down by `murmur export --dataset`. All are of the training split.\n"
        ))?;
        write_pack(&dir.join("packs").join(&name), &files)?;
        written.push(WrittenPack { name, pack: files.id().to_string(), items, left_out });
    }
    Ok(written)
}

fn write_pack(dir: &Path, files: &PackFiles) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    files.iter().try_for_each(|(path, content)| write(&dir.join(path), content))
}

fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes the list of all files as `b3sum` does; its hash.
fn write_sums(dir: &Path) -> anyhow::Result<String> {
    let mut paths = BTreeSet::new();
    list(dir, "", &mut paths)?;
    let mut sums = String::new();
    for path in paths {
        let told = || format!("cannot read {path}");
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(dir.join(&path)).with_context(told)?).with_context(told)?;
        sums += &format!("{}  {path}\n", hasher.finalize());
    }
    write(&dir.join("B3SUMS"), sums.as_bytes())?;
    Ok(format!("b3:{}", blake3::Hash::from_bytes(blake3::derive_key(ADDRESS, sums.as_bytes()))))
}

fn list(dir: &Path, prefix: &str, paths: &mut BTreeSet<String>) -> anyhow::Result<()> {
    let told = || format!("cannot read {}", dir.display());
    for entry in fs::read_dir(dir).with_context(told)? {
        let entry = entry.with_context(told)?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().with_context(told)?.is_dir() {
            list(&entry.path(), &format!("{path}/"), paths)?;
        } else {
            paths.insert(path);
        }
    }
    Ok(())
}

fn refuse_occupied(dir: &Path) -> anyhow::Result<()> {
    let shown = dir.display();
    match fs::read_dir(dir).map(Iterator::count) {
        Ok(1..) => {
            bail!("{shown} is not empty\nhint: choose another directory or move it away")
        }
        Ok(0) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot write to {shown}")),
    }
}

/// A directory beside the one that is asked for, which it becomes when everything is in it; removed otherwise.
struct Staging {
    path: PathBuf,
}

impl Staging {
    fn beside(out: &Path) -> anyhow::Result<Self> {
        let name = out.file_name().with_context(|| format!("{} is no name of a directory", out.display()))?;
        let mut part = name.to_os_string();
        part.push(format!(".{}.part", std::process::id()));
        let path = out.with_file_name(part);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    fn commit(self, out: &Path) -> anyhow::Result<()> {
        // An empty directory may be there; it is replaced.
        fs::rename(&self.path, out).with_context(|| format!("cannot write {}", out.display()))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Gone already if all went well; else what is left is not worth another error.
        let _ = fs::remove_dir_all(&self.path);
    }
}
