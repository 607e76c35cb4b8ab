//! Packs that a running swarm takes in.

use judge::{PackKey, PackOutcome, PackVote};
use tasks::PackFiles;

use super::*;

pub(crate) fn pack(name: &str) -> Pack {
    let item =
        |i: u32| format!("{{\"question\": \"{name} {i}?\", \"answer\": \"{i}\", \"level\": {}}}\n", i % 3);
    let items: String = (0..60).map(item).collect();
    let task = format!("name = \"{name}\"\nversion = \"1\"\n[answer]\nform = \"integer\"\n");
    let files = [("task.toml".to_owned(), task.into_bytes()), ("items.jsonl".to_owned(), items.into_bytes())];
    let files = PackFiles::new(files.into()).unwrap();
    Pack::open(&files, &|_| panic!("no script")).unwrap()
}

/// Lets the peers at these positions have the pack, and all of `said` speak on it.
pub(crate) fn speak(world: &mut World, pack: &Pack, said: &[(usize, bool)]) {
    for &(i, accept) in said {
        let key = world.key(i);
        if accept {
            world.input(key, Input::Pack(Box::new(pack.clone())));
        }
        let vote = PackVote { pack: PackKey(pack.id().0), weight: 1, accept };
        world.input(key, Input::PackVote(vote));
    }
}

/// What each settled round of a peer tells of the pack.
fn outcomes(world: &World, i: usize, pack: &Pack) -> Vec<PackOutcome> {
    let settled = &world.peers[&world.key(i)].settled;
    settled
        .iter()
        .filter_map(|settled| settled.settlement.packs.get(&PackKey(pack.id().0)).copied())
        .collect()
}

fn drawn(world: &World, i: usize, family: &str) -> usize {
    let settled = &world.peers[&world.key(i)].settled;
    settled.iter().flat_map(|settled| &settled.schedule).filter(|item| item.family() == family).count()
}

#[test]
fn an_accepted_pack_is_drawn_from_by_all_who_have_it_and_followed_by_who_lacks_it() {
    let mut world = World::new(4, true, 4);
    world.run(8_000);
    let pack = pack("rivers");
    speak(&mut world, &pack, &[(0, true)]);
    world.run(8_000);
    assert_eq!(outcomes(&world, 3, &pack), [PackOutcome::Proposed]);
    speak(&mut world, &pack, &[(1, true), (2, true)]);
    world.run(15_000);
    assert_eq!(outcomes(&world, 0, &pack), [PackOutcome::Proposed, PackOutcome::Accepted]);
    assert!((0..3).all(|i| drawn(&world, i, "rivers") > 4), "{}", drawn(&world, 0, "rivers"));
    let settled = &world.peers[&world.key(0)].settled;
    let accepted = settled.iter().find(|settled| !settled.settlement.next.packs.accepted.is_empty());
    let first = settled.iter().find(|settled| settled.schedule.iter().any(|item| item.family() == "rivers"));
    // The certificate after a round accepts, the one after the next round makes that final and starts the third.
    assert!(first.unwrap().round >= accepted.unwrap().round + 2, "not before it is final");
    let lacking = world.key(3);
    let round = |i: usize| world.peers[&world.key(i)].engine.as_ref().unwrap().round_number();
    assert!(round(0) - round(3) < 3, "it follows");
    assert_eq!(drawn(&world, 3, "rivers"), 0);
    let says = |world: &World| {
        let engine = world.peers[&world.key(0)].engine.as_ref().unwrap();
        engine.head().roster.contains(&lacking)
    };
    assert!(!says(&world), "it asks for no place");

    world.input(lacking, Input::Pack(Box::new(pack.clone())));
    world.run(15_000);
    assert!(says(&world) && drawn(&world, 3, "rivers") > 0, "it plays again");
    let states: Vec<_> =
        (0..4).map(|i| world.peers[&world.key(i)].engine.as_ref().unwrap().packs()).collect();
    assert!(states.windows(2).all(|pair| pair[0] == pair[1]) && states[0].unwrap().accepted.len() == 1);
}

#[test]
fn a_refused_pack_leaves_only_the_record() {
    let mut world = World::new(4, true, 4);
    world.run(5_000);
    let pack = pack("rivers");
    speak(&mut world, &pack, &[(0, true), (1, false), (2, false)]);
    world.run(15_000);
    for i in 0..4 {
        let told = outcomes(&world, i, &pack);
        assert!(told.last() == Some(&PackOutcome::Refused), "{told:?}");
        assert!(world.peers[&world.key(i)].engine.as_ref().unwrap().packs().unwrap().is_empty());
    }
    assert_eq!(drawn(&world, 0, "rivers"), 0);
}

#[test]
fn levels_open_alike_for_all_as_the_swarm_masters_them() {
    let identities: BTreeMap<PeerKey, Identity> =
        (1..=4).map(|i| Identity::from_seed([i; 32])).map(|id| (id.public(), id)).collect();
    let curriculum = judge::CurriculumRules { prompts: 4, raise_permille: 500, lower_permille: 100 };
    let rules = judge::Rules { curriculum: Some(curriculum), ..judge::Rules::default() };
    let keys: Vec<PeerKey> = identities.keys().copied().collect();
    let mut world = World::of(Manifest { judge: rules, ..manifest(&keys, 4) }, identities);
    let pack = pack("rivers");
    speak(&mut world, &pack, &[(0, true), (1, true), (2, true), (3, true)]);
    world.run(40_000);
    let mut open = 0;
    let settled = &world.peers[&world.key(0)].settled;
    for settled in settled {
        let drawn = settled.schedule.iter().filter(|item| item.family() == "rivers");
        assert!(drawn.clone().all(|item| item.level() <= open), "round {}", settled.round);
        open = settled.settlement.levels.get("rivers").copied().unwrap_or(open);
    }
    assert_eq!(open, 2, "{:?}", settled.last().unwrap().settlement.next.courses);
    let dir = tempfile::tempdir().unwrap();
    for (at, key) in keys.iter().enumerate() {
        let path = dir.path().join(at.to_string());
        let (mut log, _) = crate::log::Writer::open(&path, &world.identities[key], &world.manifest).unwrap();
        world.peers[key].log.iter().for_each(|record| log.append(record).unwrap());
        log.close().unwrap();
        let mut packs = Catalogue::new(vec![(Pack::native_six(), 1)]).unwrap();
        packs.set_aside(pack.clone());
        let replay = crate::replay::Replay::open(crate::log::Reader::open(&path).unwrap()).unwrap();
        assert_eq!(replay.run(packs, None).unwrap().rounds.len(), world.peers[key].settled.len());
    }
}

#[test]
fn what_no_quorum_wants_is_not_taken_in() {
    let mut world = World::new(4, true, 4);
    let pack = pack("rivers");
    speak(&mut world, &pack, &[(0, true), (1, true)]);
    world.run(8_000);
    let packs = world.peers[&world.key(2)].engine.as_ref().unwrap().packs().unwrap();
    assert!(packs.accepted.is_empty() && packs.open.len() == 1, "{packs:?}");
    assert!((0..4).all(|i| drawn(&world, i, "rivers") == 0));
}
