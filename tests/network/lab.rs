//! Namespaces, cables and slow links for one test.
//!
//! Everything is inside one user, network and mount namespace, which a process holds that ends with the test: nothing
//! of this machine's network is touched, nobody needs to be root, and the kernel removes all of it even where the test
//! is killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::process::{Murmur, binary, run, skip};

/// What `unshare` runs: mounts where namespaces get names, and stays until nobody writes to it any more.
const HOLDER: &str = "mount -t tmpfs none /run && ip link set lo up && ip link add name inet type bridge && \
                      ip link set inet up && echo 1 > /proc/sys/net/ipv4/ip_forward && echo ready && cat";
/// What a link may hold back at its rate, as the router of a home does, before it drops.
const QUEUE: &str = "burst 16kb latency 300ms";

/// What a router does besides translating addresses.
pub(crate) enum Router {
    /// Keeps the port of a connection if it can, so that others learn it from one another.
    Usual,
    /// Takes any other port for each connection, which nobody can learn before.
    Symmetric,
    /// Lets connections to one address through only.
    Only(&'static str),
}

/// A small internet, a switch at first, and the hosts on it.
pub(crate) struct Lab(Running);

/// A process; killed when dropped.
pub(crate) struct Running(Child);

impl Lab {
    /// `None`, and said, where this machine does not allow it or lacks a tool.
    pub(crate) fn new(tools: &[&str]) -> Option<Self> {
        for tool in ["unshare", "nsenter", "ip"].iter().chain(tools) {
            if let Err(error) = Command::new(tool).arg("--version").output() {
                skip(&format!(
                    "{tool} does not start ({error}); Debian has it in util-linux, iproute2 or nftables"
                ));
                return None;
            }
        }
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--mount", "sh", "-c", HOLDER]);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut lab = Self(Running(piped.spawn().unwrap()));
        let mut ready = String::new();
        BufReader::new(lab.0.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        if ready == "ready\n" {
            return Some(lab);
        }
        let why = std::io::read_to_string(lab.0.0.stderr.take().unwrap()).unwrap();
        skip(&format!("no network namespaces here ({}); they need user namespaces, or root", why.trim()));
        None
    }

    /// The words that run a command inside, in a namespace of its own name or on the switch.
    fn inside(&self, space: Option<&str>) -> Vec<String> {
        let holder = self.0.0.id().to_string();
        let words = ["nsenter", "-t", &holder, "-U", "-n", "-m", "--preserve-credentials"];
        let space = space.into_iter().flat_map(|space| ["ip", "netns", "exec", space]);
        words.into_iter().chain(space).map(str::to_owned).collect()
    }

    /// Runs lines of shell beside the switch.
    pub(crate) fn sh(&self, lines: &str) -> String {
        let words = self.inside(None);
        let (out, err, code) = run(Command::new(&words[0]).args(&words[1..]).args(["sh", "-ec", lines]));
        assert_eq!(code, 0, "{lines}\n{err}");
        out
    }

    /// A host with this address on the switch; its cable's end there has its name.
    pub(crate) fn host(&self, name: &str, address: &str) {
        self.sh(&format!(
            "ip netns add {name}
             ip link add name {name} type veth peer name eth0 netns {name}
             ip link set dev {name} master inet up
             ip -n {name} link set lo up
             ip -n {name} addr add {address}/16 dev eth0
             ip -n {name} link set eth0 up"
        ));
    }

    /// A host behind a router of its own, as homes have them: the router alone has an address on the switch, translates
    /// what goes out to it, and lets nothing in but answers.
    pub(crate) fn home(&self, name: &str, address: &str, router: &Router) {
        let (source, also) = match router {
            Router::Usual => ("masquerade", String::new()),
            Router::Symmetric => ("masquerade fully-random", String::new()),
            Router::Only(allowed) => ("masquerade", format!("ip daddr != {allowed} drop;")),
        };
        let rules = format!(
            "table ip home {{
                chain out {{ type nat hook postrouting priority 100; oifname eth0 {source}; }}
                chain through {{ type filter hook forward priority 0; policy drop;
                    ct state established accept; {also} iifname lan accept; }}
                chain in {{ type filter hook input priority 0; policy drop; iifname lan accept; }}
            }}"
        );
        let outside = format!("{name}-router");
        self.host(&outside, address);
        self.sh(&format!(
            "ip netns add {name}
             ip -n {outside} link add name lan type veth peer name eth0 netns {name}
             ip -n {outside} addr add 192.168.1.1/24 dev lan
             ip -n {outside} link set lan up
             ip -n {name} link set lo up
             ip -n {name} addr add 192.168.1.2/24 dev eth0
             ip -n {name} link set eth0 up
             ip -n {name} route add default via 192.168.1.1
             ip netns exec {outside} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
             ip netns exec {outside} nft '{rules}'"
        ));
    }

    /// Lets a host's link carry so much each way, as `1mbit`; `None` for all it can.
    pub(crate) fn shape(&self, name: &str, rate: Option<&str>) {
        let limit = |tc: &str| match rate {
            Some(rate) => format!("{tc} root tbf rate {rate} {QUEUE}\n"),
            None => format!("{tc} root pfifo\n"),
        };
        let (here, there) = (
            limit(&format!("tc qdisc replace dev {name}")),
            limit(&format!("tc -n {name} qdisc replace dev eth0")),
        );
        self.sh(&format!("{here}{there}"));
    }

    /// Bytes that a host has sent and got.
    pub(crate) fn bytes(&self, name: &str) -> (u64, u64) {
        let table = self.sh("cat /proc/net/dev");
        let line =
            table.lines().find_map(|line| line.trim_start().strip_prefix(&format!("{name}:"))).unwrap();
        let counts: Vec<u64> = line.split_whitespace().map(|count| count.parse().unwrap()).collect();
        (counts[0], counts[8])
    }

    /// Runs anything on a host, until it is dropped.
    pub(crate) fn spawn(&self, host: &str, words: &[&str]) -> Running {
        let inside = self.inside(Some(host));
        Running(Command::new(&inside[0]).args(&inside[1..]).args(words).stdin(Stdio::null()).spawn().unwrap())
    }

    /// Starts a peer on a host.
    pub(crate) fn join(&self, host: &str, dir: &Path, peer: &str) -> Murmur {
        self.start(host, dir, &["join", &format!("{peer}.toml"), "--plain"])
    }

    /// Starts the binary on a host.
    pub(crate) fn start(&self, host: &str, dir: &Path, args: &[&str]) -> Murmur {
        let words = self.inside(Some(host));
        let mut murmur = binary(args);
        murmur.env("MURMUR_LOG", "murmur::peer::heard=debug");
        let mut command = Command::new(&words[0]);
        // Who enters a mount namespace is at its root.
        command.args(&words[1..]).args(["env", "-C"]).arg(dir);
        command.arg(murmur.get_program()).args(murmur.get_args());
        for (name, value) in murmur.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Murmur::spawn(dir, command)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The end of what holds the namespaces takes them along, once the others in them have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
