//! Proposals and certificates: two for one view, out of turn, with invented members or settlements, or hidden.

use crate::certificate::{signed_bytes, statement_hash};
use crate::engine::{Output, Verdict};
use crate::identity::Identity;
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::message::{Kind, Proposal, STATEMENT_DOMAIN, Signature, Statement};
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
fn proposed(body: &[u8]) -> Option<Statement> {
    let proposal: Proposal = wire::decode(body, ENVELOPE_BYTES_MAX).ok()?;
    wire::decode(&proposal.statement, ENVELOPE_BYTES_MAX).ok()
}

/// Publishes a proposal and signs it.
fn put_forward(acts: &mut Acts<'_>, at: &Place, sequence: u32, statement: &Statement, to: &[usize]) -> Hash {
    let bytes = wire::encode(statement);
    let hash = statement_hash(&bytes);
    let proposal = acts.sign(at, sequence, Kind::Proposal, &Proposal { statement: bytes });
    let signature = Sig(acts.identity.sign(STATEMENT_DOMAIN, &signed_bytes(&acts.swarm, &hash)));
    let body = Signature { view: statement.view, statement: hash, signature };
    let signature = acts.sign(at, sequence, Kind::Signature, &body);
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

/// The view of a signature of its own engine.
fn signed_view(output: &Output) -> Option<u32> {
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
            other.roster.pop();
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

/// Fills its rosters with keys that nobody has.
#[derive(Default)]
pub(in crate::simulate) struct Ghosts {
    /// The view of its last proposal: it signs that and not what its engine proposed, or it would be convicted.
    view: u32,
}

impl Adversary for Ghosts {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        let Some((place, sequence, mut statement)) = own_proposal(&output) else {
            return (signed_view(&output) != Some(self.view)).then_some(output);
        };
        self.view = statement.view;
        let count = GHOSTS_EACH * acts.peers.len();
        statement.roster.extend((0..count).map(|_| Identity::from_seed(acts.dice.bytes()).public()));
        statement.roster.sort();
        let everybody = acts.others();
        let hash = put_forward(acts, &place, sequence, &statement, &everybody);
        acts.stolen.push(hash);
        acts.fire("ghosts");
        None
    }
}

/// States a settlement of its own making.
#[derive(Default)]
pub(in crate::simulate) struct Cook {
    /// The view of its last proposal: it signs that and not what its engine proposed, or it would be convicted.
    view: u32,
}

impl Adversary for Cook {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        let Some((place, sequence, mut statement)) = own_proposal(&output) else {
            return (signed_view(&output) != Some(self.view)).then_some(output);
        };
        self.view = statement.view;
        statement.settlement = Hash(acts.dice.bytes());
        let everybody = acts.others();
        let hash = put_forward(acts, &place, sequence, &statement, &everybody);
        acts.stolen.push(hash);
        acts.fire("cook");
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
        statement.roster.retain(|peer| *peer != payload.sender);
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
