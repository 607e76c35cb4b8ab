//! Text critiques in the engine: who is asked, what is taken, what is not; and that a swarm without them says and
//! signs what it always did.

use super::*;

/// Of a swarm without text critiques, taken before there were any.
#[test]
fn without_critiques_nothing_on_the_wire_has_changed() {
    let mut world = World::new(4, true, 4);
    assert_eq!(
        world.manifest.id().to_string(),
        "652aa01244fce4d5f738bf022f7b7cd5d058465a6e68d8e627d960e55271e8c0"
    );
    world.run_to(3, 20_000);
    let last = &world.peers[&world.key(0)].settled[2];
    assert_eq!(
        last.statement.to_string(),
        "33dbbb9649a128a78278924de34e7736c77704ac7791ca64e19d21733cb1778a"
    );
}
