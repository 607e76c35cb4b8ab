//! Who takes part in a simulation, and in what swarm.

use std::collections::{BTreeMap, BTreeSet};

use super::attack::Attack;
use super::clock::Clock;
use super::dice::Dice;
use super::fault::Fault;
use super::plan::{Plan, tolerated};
use super::policy::Skill;
use super::seat::{Character, Seat};
use crate::engine::Resume;
use crate::identity::Identity;
use crate::limits::{COMPLETION_BYTES_MAX, INLINE_BYTES_MAX};
use crate::manifest::{FaultModel, Genesis, Manifest, PackPin, RoundRules};
use crate::membership::{Joining, Membership};

/// A swarm that is about to start.
pub(super) struct Setting {
    pub(super) manifest: Manifest,
    pub(super) seats: Vec<Seat>,
}

/// What the swarm works on: little where only agreement matters, more where votes do.
struct Scene {
    skill: Skill,
    prompts: u16,
    completions: u16,
}

impl Scene {
    fn of(plan: &Plan, mut attacks: impl Iterator<Item = Attack>) -> Self {
        match plan.attack {
            // Honest peers are weak and scores tell nothing, so that only the weight of votes is left.
            Some(attack @ (Attack::Ring | Attack::Newcomers)) => Self {
                skill: Skill {
                    accuracy_permille: if attack.comes_late() { 300 } else { 400 },
                    discerning: false,
                    thinks_bytes: 0,
                },
                prompts: 8,
                completions: 4,
            },
            _ => {
                let fetched = attacks.any(Attack::is_on_bodies);
                let thinks_bytes = if fetched { INLINE_BYTES_MAX / 2 } else { 0 };
                Self {
                    skill: Skill { accuracy_permille: 600, discerning: true, thinks_bytes },
                    prompts: 2,
                    completions: 2,
                }
            }
        }
    }
}

impl Setting {
    /// The swarm of a plan.
    pub(super) fn of(plan: &Plan) -> Self {
        let mut dice = Dice::new(plan.seed, "setting");
        let characters = characters(plan, &mut dice);
        let scene = Scene::of(plan, characters.iter().filter_map(|(_, attack)| *attack));
        let seats: Vec<Seat> = characters
            .into_iter()
            .map(|(character, attack)| seat(plan, &scene, &mut dice, character, attack))
            .collect();
        Self { manifest: manifest(plan, &scene, &seats), seats }
    }
}

/// Exactly the dishonest peers that were asked for, at random places.
fn characters(plan: &Plan, dice: &mut Dice) -> Vec<(Character, Option<Attack>)> {
    let of_peers: Vec<Fault> = plan.faults.iter().copied().filter(|fault| fault.is_of_a_peer()).collect();
    let faulty = if of_peers.is_empty() { plan.byzantine } else { plan.byzantine.max(tolerated(plan.peers)) };
    let mut characters = vec![(Character::Honest, None); plan.peers.into()];
    let mut places: Vec<usize> = (0..characters.len()).collect();
    for nth in 0..faulty {
        let place = places.swap_remove(dice.below(places.len() as u64) as usize);
        // With a fault that makes a peer count as dishonest, one in four of them suffers it instead of attacking.
        let suffers = nth >= plan.byzantine || (plan.attack.is_none() && dice.chance(250));
        characters[place] = match dice.pick(&of_peers).filter(|_| suffers) {
            Some(Fault::LostDisk) => (Character::Forgetful, None),
            Some(_) => (Character::Leaver, None),
            None => (Character::Dishonest, plan.attack.or_else(|| dice.pick(&Attack::drawn()).copied())),
        };
        if places.is_empty() {
            break;
        }
    }
    for place in places.into_iter().take(plan.attack.map_or(0, Attack::deserters).into()) {
        characters[place] = (Character::Leaver, None);
    }
    characters
}

fn seat(plan: &Plan, scene: &Scene, dice: &mut Dice, character: Character, attack: Option<Attack>) -> Seat {
    let identity = Identity::from_seed(dice.bytes());
    let has = |fault: Fault| plan.faults.contains(&fault);
    Seat {
        key: identity.public(),
        identity,
        clock: Clock::draw(dice, has(Fault::Skew), has(Fault::Drift)),
        character,
        adversary: attack.and_then(Attack::adversary),
        skill: scene.skill,
        founder: !attack.is_some_and(Attack::comes_late),
        engine: None,
        disk: Resume::default(),
        log: Vec::new(),
        bodies: BTreeMap::new(),
        life: 0,
        wake_ms: u64::MAX,
        cut_after: None,
        slowness: 1,
    }
}

fn manifest(plan: &Plan, scene: &Scene, seats: &[Seat]) -> Manifest {
    let keys: BTreeSet<String> =
        seats.iter().filter(|seat| seat.founder).map(|seat| seat.key.hex()).collect();
    let founders = keys.len();
    let rule = match plan.attack {
        Some(Attack::Sybils | Attack::ForgeTickets) => Joining::Invited,
        _ => Joining::Open,
    };
    let mut manifest = Manifest {
        name: "simulated".into(),
        seed: plan.seed.to_string(),
        packs: vec![PackPin { id: "native:six".into(), weight: 1 }],
        models: Vec::new(),
        faults: FaultModel::Auto,
        available: plan.attack == Some(Attack::Crowd),
        membership: Membership { rule, ..Membership::default() },
        genesis: Genesis {
            peers: keys.into_iter().collect(),
            peers_min: FaultModel::Auto.quorum(founders) as u16,
        },
        round: RoundRules {
            prompts: scene.prompts,
            completions: scene.completions,
            work_deadline_ms: 4_000,
            phase_deadline_ms: 1_500,
            view_deadline_ms: 1_000,
            work_floor_ms: 600,
            ..RoundRules::default()
        },
        judge: judge::Rules::default(),
        parent: None,
    };
    if scene.skill.thinks_bytes > 0 {
        manifest.round.completion_bytes_max = COMPLETION_BYTES_MAX;
    }
    if let Some(defence) = plan.defence_off {
        defence.leave_out(&mut manifest);
    }
    manifest
}
