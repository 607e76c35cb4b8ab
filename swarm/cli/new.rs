//! `murmur new NAME`: a swarm of one's own, and the line with which others join it.

use std::fmt::Write as _;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use swarm::manifest::Manifest;
use swarm::net;
use swarm::topic::SwarmId;
use toml::{Table, Value};

use crate::config::{self, ConfigError};
use crate::exit::Outcome;
use crate::join_code::{JoinCode, folder_name, without_defaults};
use crate::{disk, packs, printer};

/// Ports of new swarms begin here; which one is tried first follows from the swarm's id, so that two on one machine
/// rarely want the same.
const PORT: u16 = 4_200;
/// First ports.
const PORTS: u16 = 10_000;
/// Ports that are tried.
const TRIES: u16 = 100;
/// An address that nobody has (RFC 5737): asked which way leads there, the system names its own address on the
/// network. Nothing is sent.
const ELSEWHERE: &str = "192.0.2.1:9";

/// Arguments of `murmur new`.
#[derive(Debug, clap::Args)]
pub(crate) struct NewArgs {
    /// Name of the swarm, for people.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Where its peers are.
    #[arg(long, value_enum, default_value_t = Reach::Machine)]
    pub(crate) reach: Reach,
    /// What its peers train.
    #[arg(long, value_enum, default_value_t = ModelPreset::Tiny)]
    pub(crate) model: ModelPreset,
    /// Peers that must be there before the first round.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) peers_min: u16,
    /// Task pack, as `murmur task` names it; native:six if none is given.
    #[arg(long, value_name = "PACK")]
    pub(crate) pack: Vec<String>,
    /// Address by which others reach this machine, as 203.0.113.5:4101 or example.org:4101; found by itself on a local
    /// network.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: Option<String>,
    /// Relay point through which peers find and reach each other where routers let nobody in, as `murmur relay` prints
    /// it.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "address")]
    pub(crate) relay: Option<String>,
    /// Folder for config, key and records; the swarm's name if not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the peers of a new swarm are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reach {
    /// All on this machine.
    Machine,
    /// On one local network.
    Lan,
    /// Anywhere; needs --address.
    Internet,
}

/// What the peers of a new swarm train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ModelPreset {
    /// The embedded bases: a second a round on one core.
    Tiny,
    /// Qwen2.5-0.5B-Instruct with an adapter: minutes a round on four cores, 3 GiB, 1 GB to download.
    #[value(name = "0.5b")]
    #[serde(rename = "0.5b")]
    HalfB,
    /// The same on an NVIDIA GPU; needs a build with --features cuda.
    Gpu,
}

impl ModelPreset {
    /// Model of a peer; `draw` is any number of its own, so that peers start with different ones where there are some.
    fn base(self, draw: u8) -> &'static str {
        let bases = policy::bases();
        match self {
            Self::Tiny => bases.get(usize::from(draw) % bases.len().max(1)).copied().unwrap_or("amber"),
            Self::HalfB | Self::Gpu => "Qwen/Qwen2.5-0.5B-Instruct",
        }
    }

    /// Size and pace of a round.
    fn round(self) -> &'static str {
        match self {
            Self::Tiny => "",
            Self::HalfB => {
                "prompts = 8\ncompletions = 4\ncompletion_bytes_max = 512\nnew_tokens_max = 96\n\
                 work_deadline_ms = 1200000\nwork_floor_ms = 60000"
            }
            Self::Gpu => {
                "prompts = 16\ncompletions = 8\ncompletion_bytes_max = 512\nnew_tokens_max = 96\n\
                 work_deadline_ms = 300000\nwork_floor_ms = 20000"
            }
        }
    }

    /// How a peer computes and learns.
    fn own_affairs(self) -> &'static str {
        match self {
            Self::Tiny => "",
            Self::HalfB => {
                "\n[policy]\nthreads = 0\n\n[lora]\nrank = 16\nalpha = 32.0\n\n\
                 [learning]\nlearning_rate = 5e-5\nwarmup_rounds = 10\ngradient_checkpointing = true\n"
            }
            Self::Gpu => {
                "\n[policy]\ndevice = \"cuda\"\n\n[lora]\nrank = 16\nalpha = 32.0\n\n\
                 [learning]\nlearning_rate = 5e-5\nwarmup_rounds = 10\n"
            }
        }
    }
}

/// What the command did.
#[derive(Debug, Serialize)]
struct Made {
    swarm: String,
    config: PathBuf,
    /// What others run to join.
    join: String,
}

/// Runs the command.
///
/// # Errors
/// A folder that is there already, a pack that is not, or no address that others could use.
pub(crate) fn run(args: &NewArgs) -> anyhow::Result<Outcome> {
    let dir = args.dir.clone().unwrap_or_else(|| folder_name(&args.name).into());
    let path = dir.join("peer.toml");
    if path.exists() {
        let hint = format!(
            "`murmur join {}` goes on with it, and the line for others stands in it; --dir DIR makes another",
            path.display()
        );
        return Err(ConfigError::new(path.display(), "there is a swarm here already", hint).into());
    }
    let swarm = manifest(args)?;
    let Place { listen, meet, here } = place(args, &swarm)?;
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let state = std::path::absolute(dir.join("state"))?;
    let bootstrap = if here { Vec::new() } else { vec![meet.clone()] };
    let lan = args.reach == Reach::Lan;
    let code = JoinCode::new(swarm.clone(), args.model, vec![meet], lan).to_text()?;
    let peer = NewPeer {
        swarm: &swarm,
        model: args.model,
        listen: &listen,
        bootstrap: &bootstrap,
        lan,
        state: &state,
        draw: 0,
        code: &code,
    };
    write(&path, &peer.config()?)?;
    let made =
        Made { swarm: swarm.id().to_string(), config: path.clone(), join: format!("murmur join {code}") };
    if args.json {
        printer::json(&made)?;
        return Ok(Outcome::Done);
    }
    let needs = match usize::from(args.peers_min) {
        0 | 1 => "It starts at once.".to_owned(),
        n => format!(
            "It starts when {n} peers are there; watch one with: murmur watch {}",
            state.join("run").display()
        ),
    };
    printer::note(&format!(
        "wrote {}\nrun this peer with: murmur join {}\n{needs}\nothers join {} with this line:",
        path.display(),
        path.display(),
        args.reach.whence()
    ));
    printer::data(&made.join)?;
    Ok(Outcome::Done)
}

impl Reach {
    fn whence(self) -> &'static str {
        match self {
            Self::Machine => "from other terminals of this machine",
            Self::Lan => "from this network",
            Self::Internet => "from anywhere",
        }
    }
}

fn manifest(args: &NewArgs) -> anyhow::Result<Manifest> {
    let pins: Vec<String> = match &args.pack[..] {
        [] => vec!["native:six".into()],
        named => named.iter().map(|name| packs::pin(name)).collect::<Result<_, _>>()?,
    };
    let pin = |id: &String| {
        Value::Table(
            [("id".into(), Value::from(id.as_str())), ("weight".into(), 1.into())].into_iter().collect(),
        )
    };
    let mut table = Table::new();
    table.insert("name".into(), args.name.as_str().into());
    table.insert("packs".into(), Value::Array(pins.iter().map(pin).collect()));
    let genesis = [("peers_min".to_owned(), Value::from(i64::from(args.peers_min)))];
    table.insert("genesis".into(), Value::Table(genesis.into_iter().collect()));
    table.insert("round".into(), Value::Table(toml::from_str(args.model.round()).context("the preset")?));
    // Two swarms of one name are two swarms.
    table.insert("seed".into(), fresh_seed()?.into());
    let swarm: Manifest = config::parse("the new swarm", &toml::to_string(&table)?)?;
    swarm.validate().map_err(|error| ConfigError::new("the new swarm", error.to_string(), ""))?;
    Ok(swarm)
}

fn fresh_seed() -> anyhow::Result<String> {
    let entropy = swarm::identity::entropy()?;
    Ok(entropy[..6].iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Where the first peer of a swarm is.
struct Place {
    listen: Vec<String>,
    /// Where others meet it.
    meet: String,
    /// Whether that is the peer itself.
    here: bool,
}

fn place(args: &NewArgs, swarm: &Manifest) -> Result<Place, anyhow::Error> {
    let place = |listen: Vec<String>, meet: String| Place { listen, meet, here: true };
    if let Some(relay) = &args.relay {
        net::sockets(relay).map_err(|why| {
            let (why, hint) = config::split_hint(&why);
            ConfigError::new("--relay", why, hint)
        })?;
        let listen = listens(std::slice::from_ref(relay));
        return Ok(Place { here: false, ..place(listen, relay.clone()) });
    }
    match (args.reach, &args.address) {
        (Reach::Machine, None) => {
            let here = format!("127.0.0.1:{}", free_port(IpAddr::from([127, 0, 0, 1]), swarm)?);
            Ok(place(vec![here.clone()], here))
        }
        (Reach::Lan, None) => {
            let port = free_port(IpAddr::from([0, 0, 0, 0]), swarm)?;
            Ok(place(everywhere(port), format!("{}:{port}", own_address()?)))
        }
        (Reach::Internet, None) => Err(ConfigError::new(
            "--reach internet",
            "others need an address of this machine, or a relay point",
            "give the address by which your router or provider lets others in, --address 203.0.113.5:4101; or, where it lets nobody in, what a `murmur relay` elsewhere printed: --relay ADDRESS",
        )
        .into()),
        (_, Some(address)) => {
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            let Some(port) = port.filter(|_| net::sockets(address).is_ok()) else {
                let hint = "give a host and a port, as 203.0.113.5:4101 or example.org:4101";
                return Err(ConfigError::new("--address", format!("{address:?} leads nowhere"), hint).into());
            };
            Ok(place(everywhere(port), address.clone()))
        }
    }
}

/// Every address of this machine, by TCP and QUIC.
fn everywhere(port: u16) -> Vec<String> {
    vec![format!("0.0.0.0:{port}"), format!("/ip4/0.0.0.0/udp/{port}/quic-v1")]
}

/// Where a peer listens that joins by a code: where others of the swarm could reach it.
pub(crate) fn listens(bootstrap: &[String]) -> Vec<String> {
    let near = |address: &String| {
        net::sockets(address).is_ok_and(|(sockets, _)| sockets.iter().all(|socket| socket.ip().is_loopback()))
    };
    if bootstrap.iter().all(near) { vec!["127.0.0.1:0".into()] } else { everywhere(0) }
}

fn free_port(ip: IpAddr, swarm: &Manifest) -> anyhow::Result<u16> {
    let SwarmId([low, high, ..]) = swarm.id();
    let first = PORT + u16::from_le_bytes([low, high]) % PORTS;
    let free = |port: &u16| TcpListener::bind((ip, *port)).is_ok();
    match (first..first + TRIES).find(free) {
        Some(port) => Ok(port),
        None => bail!("no port from {first} on is free\nhint: choose one with --address IP:PORT"),
    }
}

fn own_address() -> anyhow::Result<IpAddr> {
    let found = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(ELSEWHERE)?;
        Ok(socket.local_addr()?.ip())
    };
    found().context("this machine has no address on a network\nhint: give it with --address IP:PORT")
}

/// A config to be written.
pub(crate) struct NewPeer<'a> {
    pub(crate) swarm: &'a Manifest,
    pub(crate) model: ModelPreset,
    pub(crate) listen: &'a [String],
    pub(crate) bootstrap: &'a [String],
    /// Whether it looks for others on the local network.
    pub(crate) lan: bool,
    pub(crate) state: &'a Path,
    /// Any number of the peer's own.
    pub(crate) draw: u8,
    /// With which others join.
    pub(crate) code: &'a str,
}

impl NewPeer<'_> {
    /// The text of the config.
    ///
    /// # Errors
    /// A manifest that TOML cannot hold.
    pub(crate) fn config(&self) -> anyhow::Result<String> {
        let mut shared = Table::new();
        shared.insert("swarm".into(), Value::Table(without_defaults(self.swarm)?));
        let shared = toml::to_string(&shared).context("the config cannot be written")?;
        let text = |text: &str| Value::from(text).to_string();
        let list = |texts: &[String]| texts.iter().map(|each| text(each)).collect::<Vec<_>>().join(", ");
        Ok(format!(
            "# A peer of the swarm {name}, as `murmur new` or `murmur join CODE` wrote it. Run it with: murmur join THIS FILE\n\
             # What can be set besides: murmur config show THIS FILE --origin\n\
             # Others join with: murmur join {code}\n\n\
             # The same for all peers: its hash is the swarm's identity, {id}.\n{shared}\n\
             # This peer's own affair.\n[peer]\nlisten = [{listen}]\nbootstrap = [{bootstrap}]\n{lan}base = {base}\nstate = {state}\n{own}",
            name = self.swarm.name.replace(char::is_control, " "),
            code = self.code,
            id = self.swarm.id().short(),
            listen = list(self.listen),
            bootstrap = list(self.bootstrap),
            lan = if self.lan { "lan = true\n" } else { "" },
            base = text(self.model.base(self.draw)),
            state = text(&self.state.display().to_string()),
            own = self.model.own_affairs(),
        ))
    }
}

/// Writes a config that is not there yet.
///
/// # Errors
/// A folder that cannot be written.
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    disk::replace(&path.with_extension("toml.tmp"), path, text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join::JoinConfig;

    #[test]
    fn every_preset_is_a_config_of_the_swarm_it_was_made_for() {
        for model in ModelPreset::value_variants() {
            let args = NewArgs {
                name: "oak \"elm\"\nash".into(),
                reach: Reach::Machine,
                model: *model,
                peers_min: 3,
                pack: vec!["native:gcd@1-2".into()],
                address: None,
                relay: None,
                dir: None,
                json: false,
            };
            let swarm = manifest(&args).unwrap();
            let state = Path::new("a \"b\"");
            let bootstrap = ["127.0.0.1:1".to_owned()];
            let peer = NewPeer {
                swarm: &swarm,
                model: *model,
                listen: &listens(&bootstrap),
                bootstrap: &bootstrap,
                lan: false,
                state,
                draw: 1,
                code: "murmur1",
            };
            let config: JoinConfig = config::parse("", &peer.config().unwrap()).unwrap();
            assert_eq!(config.swarm.id(), swarm.id());
            assert_eq!((config.peer.state.as_path(), &config.peer.bootstrap[..]), (state, &bootstrap[..]));
            assert!(!config.peer.lan && config.peer.listen == ["127.0.0.1:0"]);
            let code = JoinCode::new(swarm, *model, bootstrap.to_vec(), true);
            let text = code.to_text().unwrap();
            assert_eq!(JoinCode::parse(Path::new(&text)), Ok(Some(code)));
        }
    }

    #[test]
    fn who_joins_listens_where_others_of_the_swarm_could_reach_it() {
        let at = |address: &str| listens(&[address.to_owned()]).len();
        assert_eq!(at("127.0.0.1:1"), 1);
        assert_eq!(at("192.168.1.7:4101"), 2, "by TCP and QUIC");
        assert_eq!(at("/ip4/203.0.113.5/udp/4101/quic-v1"), 2);
    }
}
