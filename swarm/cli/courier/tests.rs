//! Couriers among real peers over loopback.

use swarm::identity::Identity;

use super::*;

const SWARM: SwarmId = SwarmId([7; 32]);
const SOON: Duration = Duration::from_secs(20);

fn pack(items: &str) -> PackFiles {
    let file = |path: &str, text: &str| (path.to_owned(), text.as_bytes().to_vec());
    PackFiles::new([file("task.toml", "name = \"a\"\n"), file("items.jsonl", items)].into()).unwrap()
}

async fn network(seed: u8, listen: bool, bootstrap: Vec<String>) -> Network {
    let listen = if listen { vec!["127.0.0.1:0".to_owned()] } else { Vec::new() };
    let net = NetConfig { listen, bootstrap, ..NetConfig::default() };
    Network::bind(&Identity::from_seed([seed; 32]), SWARM, net).await.unwrap()
}

/// A peer that says it has the pack `id` and gives these bytes; nothing if there are none.
async fn giver(seed: u8, id: PackId, bytes: Option<Vec<u8>>) -> String {
    let mut network = network(seed, true, Vec::new()).await;
    let mut shelf = Shelf::new(SWARM);
    if let Some(blob) = bytes.and_then(|bytes| network.pin(bytes)) {
        shelf.add(id, blob);
    }
    let address = network.listen_addresses().remove(0);
    tokio::spawn(async move {
        loop {
            if let NetEvent::Request { bytes, channel, .. } = network.next().await {
                network.respond(channel, shelf.serve(&bytes).unwrap()).unwrap();
            }
        }
    });
    address
}

#[tokio::test]
async fn a_pack_comes_although_others_lie_or_lack_it() {
    let files = pack(&"{\"question\": \"1+1\", \"answer\": \"2\"}\n".repeat(9_000));
    let id = files.id();
    let mut other = files.archive();
    let end = other.len() - 9;
    other[end] ^= 1;
    let addresses = vec![
        giver(1, id, Some(other)).await,
        giver(2, id, Some(pack("").archive())).await,
        giver(3, id, None).await,
        giver(4, id, Some(files.archive())).await,
    ];
    let mut courier = Courier::new(network(9, false, addresses).await, SWARM);
    let (came, from) = courier.fetch(&id, SOON).await.unwrap();
    assert!(came == files && from == Identity::from_seed([4; 32]).public());
}

#[tokio::test]
async fn a_pack_that_nobody_gives_is_an_error_that_names_who_said_what() {
    let id = pack("x").id();
    let mut addresses = vec![giver(1, id, Some(b"none".to_vec())).await, giver(2, id, None).await];
    // Nothing listens on port 9.
    addresses.push("127.0.0.1:9".into());
    let mut courier = Courier::new(network(9, false, addresses).await, SWARM);
    let error = courier.fetch(&id, Duration::from_secs(2)).await.unwrap_err().to_string();
    let [liar, lacks] = [1, 2].map(|seed| Identity::from_seed([seed; 32]).public().name());
    for part in [
        format!("nobody gave the pack {id} within 2 s"),
        format!("{liar}: gave bytes that are not this pack's"),
        format!("{lacks}: does not have it"),
        "/tcp/9: ".to_owned(),
        "hint: under [peer], bootstrap must name".to_owned(),
    ] {
        assert!(error.contains(&part), "{part:?} is not in {error}");
    }
}
