//! The card of a dataset: `README.md`, with the front matter that Hugging Face's `datasets` reads.

use std::collections::{BTreeMap, BTreeSet};

use judge::{AcceptedPack, PackKey, PeerKey};
use swarm::manifest::Manifest;
use tasks::PackId;

use super::WrittenPack;
use super::tables::{TABLES, Table, columns};

/// What a card says.
pub(super) struct Card<'a> {
    pub(super) manifest: &'a Manifest,
    /// Numbers of the rounds, rising.
    pub(super) rounds: &'a [u32],
    pub(super) peers: &'a BTreeSet<PeerKey>,
    /// Rows by table.
    pub(super) rows: &'a BTreeMap<&'static str, u64>,
    pub(super) packs: &'a [WrittenPack],
    /// Besides the manifest's.
    pub(super) taken_in: &'a BTreeMap<PackKey, AcceptedPack>,
}

impl Card<'_> {
    /// The text: the same from every log with the same rounds.
    pub(super) fn text(&self) -> String {
        format!(
            "{header}# Swarm {swarm}: what its peers said\n\n\
Prompts, completions, critiques, votes and labels of {count} rounds ({first} to {last}) in which {peers} peers trained \
language models together, without a coordinator. Everything is from a log in which each signature, settlement and \
certificate was verified, and only what certificates include is here.\n\n\
```python\nfrom datasets import load_dataset\ncompletions = load_dataset(\"DIRECTORY\", \"completions\", split=\"train\")\n```\n\n\
*Completions were written by models, and a consensus or a label is what peers voted for: both may be wrong. `reference` \
and `correct` are from the task packs. All prompts are of the packs' training splits; report on others.*\n\n\
## Tables\n\n{tables}\
## Items, as task packs\n\n\
Each folder in `packs/` is a pack: `murmur task add packs/NAME` gives the address below, wherever it is done, and a swarm \
that trains on it asks the same items, under the same ids and in the same splits.\n\n{packs}\n\
The swarm drew them from:\n\n{sources}\n\
## Peers\n\n{keys}\n\
## Made by\n\n`murmur export RUN --dataset DIRECTORY`, murmur {version}; swarm `{swarm_id}`. `B3SUMS` has the hash of every \
file of it: `b3sum --check B3SUMS`. Items are under the licence that their pack's `task.toml` names; of what peers wrote, no \
licence is known.\n",
            header = self.header(),
            swarm = self.manifest.id().short(),
            count = self.rounds.len(),
            first = self.rounds.first().copied().unwrap_or(0),
            last = self.rounds.last().copied().unwrap_or(0),
            peers = self.peers.len(),
            tables = self.tables().map(|table| self.table(table)).collect::<String>(),
            packs = self.packs(),
            sources = self.sources(),
            keys = self.keys(),
            version = env!("CARGO_PKG_VERSION"),
            swarm_id = self.manifest.id(),
        )
    }

    fn tables(&self) -> impl Iterator<Item = &'static Table> {
        TABLES.iter().filter(|table| self.rows.get(table.name).is_some_and(|rows| *rows > 0))
    }

    /// Types are written down: a column without any value in it would have none otherwise.
    fn header(&self) -> String {
        let mut text =
            "---\ntask_categories: [text-generation]\ntags: [murmur, decentralized-training]\nconfigs:\n"
                .to_owned();
        for (at, table) in self.tables().enumerate() {
            text += &format!("- config_name: {0}\n  data_files: data/{0}.jsonl\n", table.name);
            text += if at == 0 { "  default: true\n" } else { "" };
        }
        text += "dataset_info:\n";
        for table in self.tables() {
            text += &format!("- config_name: {}\n  features:\n", table.name);
            for (name, kind, _) in columns(table) {
                text += &format!("  - name: {name}\n    dtype: {kind}\n");
            }
        }
        text + "---\n\n"
    }

    fn table(&self, table: &Table) -> String {
        let rows = self.rows.get(table.name).copied().unwrap_or(0);
        let mut text = format!("**{}**, {rows} rows: {}.\n\n", table.name, table.row);
        text += "| column | type | |\n|---|---|---|\n";
        for (name, kind, meaning) in columns(table) {
            text += &format!("| `{name}` | {kind} | {meaning} |\n");
        }
        text + "\n"
    }

    fn packs(&self) -> String {
        let mut text = "| pack | items | address |\n|---|---:|---|\n".to_owned();
        for pack in self.packs {
            text += &format!("| `packs/{}` | {} | `{}` |\n", pack.name, pack.items, pack.pack);
            if pack.left_out > 0 {
                text += &format!("| | {} more did not fit | |\n", pack.left_out);
            }
        }
        text
    }

    fn sources(&self) -> String {
        let of = |pin: &swarm::manifest::PackPin| format!("* `{}`, weight {}\n", pin.id, pin.weight);
        let of_taken = |(pack, accepted): (&PackKey, &AcceptedPack)| {
            let (id, AcceptedPack { weight, round }) = (PackId(pack.0), accepted);
            format!("* `{id}`, weight {weight}, taken in by a vote with the certificate of round {round}\n")
        };
        let manifest = self.manifest.packs.iter().map(of);
        manifest.chain(self.taken_in.iter().map(of_taken)).collect()
    }

    fn keys(&self) -> String {
        let peers: Vec<PeerKey> = self.peers.iter().copied().collect();
        let names = judge::names(&peers);
        let of = |(peer, name): (&PeerKey, &String)| format!("* {name}: `{}`\n", peer.hex());
        names.iter().map(of).collect()
    }
}
