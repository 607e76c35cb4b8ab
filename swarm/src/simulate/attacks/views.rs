//! Proposals and certificates: two for one view, out of turn, with invented members or settlements, or hidden.

use judge::PeerKey;

use crate::certificate::statement_hash;
use crate::engine::{Output, Verdict};
use crate::identity::Identity;
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::message::{Certificate, Kind, Proposal, Signature, Signed, Statement};
use crate::simulate::adversary::{Acts, Adversary, Place, payload, place_of};
use crate::topic::Topic;
use crate::wire::{self, Hash, Sig};

/// Invented members of a roster, for each peer that there is.
const GHOSTS_EACH: usize = 2;

/// Nothing but heartbeats.
pub(in crate::simulate) struct Silence;

impl Adversary for Silence {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        match output {
            Output::Publish(topic, _) if topic != Topic::Presence => {
                acts.fire("silence");
                None
            }
            other => Some(other),
        }
    }
}

/// The statement in a proposal.
pub(super) fn proposed(body: &[u8]) -> Option<Statement> {
    let proposal: Proposal = wire::decode(body, ENVELOPE_BYTES_MAX).ok()?;
    wire::decode(&proposal.statement, ENVELOPE_BYTES_MAX).ok()
}

/// Publishes a proposal and signs it.
pub(super) fn put_forward(
    acts: &mut Acts<'_>,
    at: &Place,
    sequence: u32,
    statement: &Statement,
    to: &[usize],
) -> Hash {
    let bytes = wire::encode(statement);
    let hash = statement_hash(&bytes);
    let proposal = acts.sign(at, sequence, Kind::Proposal, &Proposal { statement: bytes });
    let signature = acts.sign(at, sequence, Kind::Signature, &acts.sign_statement(statement));
    acts.sent.push((to.to_vec(), Topic::Control, proposal));
    acts.sent.push((to.to_vec(), Topic::Control, signature));
    hash
}

/// An own proposal that its engine is about to publish.
fn own_proposal(output: &Output) -> Option<(Place, u32, Statement)> {
    let Output::Publish(Topic::Control, bytes) = output else { return None };
    let payload = payload(bytes).filter(|payload| payload.kind == Kind::Proposal)?;
    Some((place_of(&payload), payload.sequence, proposed(&payload.body)?))
}

/// Makes another statement of the same round, as right as the first.
fn leave_out_a_ballot(statement: &mut Statement, acts: &Acts<'_>) -> Option<()> {
    let last = statement.ballots.iter().last();
    statement.ballots = statement.ballots.iter().filter(|i| Some(*i) != last).collect();
    acts.engine?.settle_statement(statement)
}

/// The view of a signature of its own engine.
pub(super) fn signed_view(output: &Output) -> Option<u32> {
    let Output::Publish(Topic::Control, bytes) = output else { return None };
    let payload = payload(bytes).filter(|payload| payload.kind == Kind::Signature)?;
    wire::decode::<Signature>(&payload.body, ENVELOPE_BYTES_MAX).ok().map(|signature| signature.view)
}

/// Puts forward two statements a view and signs both; signs whatever else there is.
pub(in crate::simulate) struct TwoStatements;

impl Adversary for TwoStatements {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        if let Some((place, sequence, statement)) = own_proposal(&output) {
            let mut other = statement.clone();
            leave_out_a_ballot(&mut other, acts)?;
            let (mine, theirs) = (acts.half(0), acts.half(1));
            // Each half hears one of them first, and both in the end.
            for (to, statement) in
                [(&mine, &statement), (&theirs, &other), (&mine, &other), (&theirs, &statement)]
            {
                put_forward(acts, &place, sequence, statement, to);
            }
            acts.fire("two-statements");
            return None;
        }
        Some(output)
    }
}

/// Puts forward something else than what its engine proposes.
pub(in crate::simulate) struct Twist {
    name: &'static str,
    /// What it makes of a statement; nothing is said in a view where it makes none of it.
    twist: fn(&mut Statement, &mut Acts<'_>) -> Option<()>,
    /// The view of its last proposal: it signs that and not what its engine proposed, or it would be convicted.
    view: u32,
}

impl Twist {
    /// Rosters with keys that nobody has.
    pub(in crate::simulate) fn ghosts() -> Self {
        let twist = |statement: &mut Statement, acts: &mut Acts<'_>| {
            let count = GHOSTS_EACH * acts.peers.len();
            statement.roster.extend((0..count).map(|_| Identity::from_seed(acts.dice.bytes()).public()));
            statement.roster.sort();
            Some(())
        };
        Self { name: "ghosts", twist, view: 0 }
    }

    /// A settlement of its own making.
    pub(in crate::simulate) fn cook() -> Self {
        let twist = |statement: &mut Statement, acts: &mut Acts<'_>| {
            statement.settlement = Hash(acts.dice.bytes());
            Some(())
        };
        Self { name: "cook", twist, view: 0 }
    }

    /// Rosters of its own kind, in statements that are right in all else.
    pub(in crate::simulate) fn expel() -> Self {
        let twist = |statement: &mut Statement, acts: &mut Acts<'_>| {
            statement.roster.retain(|peer| acts.accomplices.contains(peer));
            Some(())
        };
        Self { name: "expel", twist, view: 0 }
    }

    /// The conviction of a peer that has done nothing, in a statement that is right in all else.
    pub(in crate::simulate) fn slander() -> Self {
        let twist = |statement: &mut Statement, acts: &mut Acts<'_>| {
            let engine = acts.engine?;
            let victim = *statement.roster.iter().find(|peer| !acts.accomplices.contains(peer))?;
            let spared = engine.roster().iter().position(|peer| *peer == victim);
            let Statement { commits, answers, critiques, ballots, .. } = statement;
            for set in [commits, answers, critiques, ballots] {
                *set = set.iter().filter(|i| Some(*i) != spared).collect();
            }
            statement.roster.retain(|peer| *peer != victim);
            statement.offenders.push(victim);
            statement.offenders.sort_unstable();
            engine.settle_statement(statement)
        };
        Self { name: "slander", twist, view: 0 }
    }
}

impl Adversary for Twist {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        let Some((place, sequence, mut statement)) = own_proposal(&output) else {
            return (signed_view(&output) != Some(self.view)).then_some(output);
        };
        self.view = statement.view;
        (self.twist)(&mut statement, acts)?;
        let everybody = acts.others();
        let hash = put_forward(acts, &place, sequence, &statement, &everybody);
        acts.stolen.push(hash);
        acts.fire(self.name);
        None
    }
}

/// Shows certificates of rosters of its own, with signatures in the names of all members.
pub(in crate::simulate) struct ForgeCertificates;

impl Adversary for ForgeCertificates {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        let Some((place, sequence, mut statement)) = own_proposal(&output) else { return Some(output) };
        let signed = |peer: &PeerKey| Signed { peer: *peer, signature: Sig([0; 64]) };
        let signatures = statement.roster.iter().map(signed).collect();
        statement.roster = vec![acts.me];
        let certificate = Certificate { statement: wire::encode(&statement), signatures };
        let bytes = acts.sign(&place, sequence, Kind::Certificate, &certificate);
        acts.publish(Topic::Control, bytes);
        acts.fire("forge-certificates");
        None
    }
}

/// Takes over every proposal that it hears, and leaves its proposer out of the next roster.
pub(in crate::simulate) struct Usurp;

impl Adversary for Usurp {
    fn perform(&mut self, output: Output, _acts: &mut Acts<'_>) -> Option<Output> {
        // It signs nobody else's proposals.
        signed_view(&output).is_none().then_some(output)
    }

    fn heard(&mut self, _topic: Topic, bytes: &[u8], _verdict: Verdict, acts: &mut Acts<'_>) {
        let Some(payload) = payload(bytes).filter(|payload| payload.kind == Kind::Proposal) else { return };
        let Some(mut statement) =
            proposed(&payload.body).filter(|_| !acts.accomplices.contains(&payload.sender))
        else {
            return;
        };
        statement.view += 1;
        if leave_out_a_ballot(&mut statement, acts).is_none() {
            return;
        }
        let everybody = acts.others();
        let hash = put_forward(acts, &place_of(&payload), payload.sequence, &statement, &everybody);
        acts.stolen.push(hash);
        acts.fire("usurp");
    }
}

/// Shows its proposals to half of the swarm and its certificates to nobody, and answers no requests.
pub(in crate::simulate) struct Hide;

impl Adversary for Hide {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        let Output::Publish(Topic::Control, bytes) = &output else { return Some(output) };
        match payload(bytes).map(|payload| payload.kind) {
            Some(Kind::Proposal) => {
                acts.fire("hide");
                let some = acts.dice.below(2) as usize;
                acts.publish_half(some, Topic::Control, bytes.clone());
                None
            }
            Some(Kind::Certificate) => None,
            _ => Some(output),
        }
    }

    fn serves(&self) -> bool {
        false
    }
}
