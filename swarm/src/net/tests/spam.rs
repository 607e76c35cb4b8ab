//! A fifth of a swarm says besides its part whatever it likes: what reaches the others of it, when they cut it off,
//! and what it does to their rounds.

use judge::PeerKey;

use super::company::{Company, Course, Ended, Saying, Spam, Vice, key};
use super::*;
use crate::bitmap::Bitmap;
use crate::certificate::signed_bytes;
use crate::limits::{EARLY_ROUNDS_MAX, HEARTBEATS_MAX, PROTOCOL, SHARE_MESSAGES};
use crate::message::{
    Certificate, Commit, ENVELOPE_DOMAIN, Envelope, Kind, Payload, Presence, Proposal, STATEMENT_DOMAIN,
    Signature, Signed, Statement,
};
use crate::wire::{self, Hash, Sig};

const HONEST: u8 = 8;
const BAD: u8 = 2;
/// Links of an honest peer with one of the others.
const LINKS: u64 = HONEST as u64 * BAD as u64;
/// Rounds that the honest end before and after some turn bad.
const ROUNDS: [u32; 2] = [4, 5];
/// Messages of each kind at once.
const BATCH: u32 = 4;
const COURSE: Course = Course {
    peers: HONEST + BAD,
    prompts: 4,
    completions: 4,
    text_bytes: 200,
    work: Duration::from_millis(200),
    view: Duration::from_millis(600),
};

/// Rounds of the honest.
#[derive(Debug)]
struct Pace {
    /// How long half of them took at most, and the longest.
    median: Duration,
    most: Duration,
    /// Part of the answers of the honest that counted.
    counted: f64,
    /// Proposers waited for in vain, in a round.
    voids: f64,
}

/// Rounds before some of the company turn bad, after that, and what came of what they said.
struct Outcome {
    before: Pace,
    after: Pace,
    spam: Spam,
}

fn pace(ended: &[Ended]) -> Pace {
    let mut took: Vec<Duration> = ended.iter().map(|ended| ended.took).collect();
    took.sort_unstable();
    let honest: Vec<PeerKey> = (0..HONEST.into()).map(key).collect();
    let counted = |ended: &Ended| ended.answered.iter().filter(|peer| honest.contains(peer)).count();
    let of_all = |sum: usize| sum as f64 / ended.len() as f64;
    Pace {
        median: took[took.len() / 2],
        most: took[took.len() - 1],
        counted: of_all(ended.iter().map(counted).sum()) / honest.len() as f64,
        voids: of_all(ended.iter().map(|ended| ended.voids as usize).sum()),
    }
}

async fn suffer(works: bool, says: fn(Author) -> Saying) -> Outcome {
    let vice = |place| Vice { works, says: says(Author::new(place + 1)) };
    let vices = (HONEST..HONEST + BAD).map(vice).collect();
    let mut company = Company::start(&COURSE, &config(&[]), vices).await.unwrap();
    // The first rounds find out how long things take.
    let last = |ended: &[Ended]| ended.iter().map(|ended| ended.round).max().unwrap();
    let learnt = company.reach(2, HONEST, 3 * WITHIN).await;
    let quiet = company.reach(last(&learnt) + ROUNDS[0], HONEST, 3 * WITHIN).await;
    company.turn_bad();
    let loud = company.reach(last(&quiet) + ROUNDS[1], HONEST, 3 * WITHIN).await;
    let outcome = Outcome { before: pace(&quiet), after: pace(&loud), spam: company.post.spam() };
    company.stop().await;
    outcome.tell();
    outcome
}

impl Outcome {
    fn tell(&self) {
        for (when, pace) in [("before", &self.before), ("after", &self.after)] {
            let Pace { median, most, counted, voids } = pace;
            println!(
                "{when}: half of the rounds within {median:.2?}, all within {most:.2?}, {voids:.1} void views a round, \
                 {:.1} % of the honest answers counted",
                100.0 * counted
            );
        }
        let Spam { verdicts, last, cut, .. } = &self.spam;
        println!(
            "{} messages besides; the honest looked at them {verdicts:?} times, the last after {last:.2?}; {} links cut, \
             each first within {:.2?}",
            self.spam.sent(),
            cut.len(),
            cut.values().max(),
        );
    }

    fn hold(&self) {
        assert!(self.spam.wronged.is_empty(), "{:?}", self.spam.wronged);
        // Who is there and does nothing costs the others a deadline, whatever else it does, and a proposer that they
        // wait for. Other work on this machine may take as much as the round itself.
        let floor = Duration::from_millis(COURSE.manifest().round.work_floor_ms.into());
        let most = 3 * self.before.median + floor + 2 * COURSE.view;
        assert!(self.after.median < most, "{:?}, at most {most:?}", self.after);
        assert!(self.after.counted > 0.5, "{:?}", self.after);
    }

    /// How often such messages came to an engine of the honest, in all.
    fn looked_at(&self) -> u64 {
        self.spam.verdicts.values().sum()
    }

    /// The same for those that were passed on.
    fn passed_on(&self) -> u64 {
        self.spam.verdicts.get("accepted").copied().unwrap_or(0)
    }
}

/// Who signs what a peer of ill will makes up.
struct Author {
    identity: Identity,
    swarm: Hash,
    round: u32,
    start: Hash,
    presence: Option<Presence>,
    made: u32,
}

impl Author {
    fn new(seed: u8) -> Self {
        Self {
            identity: Identity::from_seed([seed; 32]),
            swarm: Hash(COURSE.manifest().id().0),
            round: 0,
            start: Hash::default(),
            presence: None,
            // Above all that its engine says.
            made: 1 << 20,
        }
    }

    /// Learns from what its engine says where the swarm stands.
    fn follow(&mut self, said: &[Vec<u8>]) {
        for payload in said.iter().map(|bytes| payload(bytes)) {
            (self.round, self.start) = (payload.round, payload.start);
            if payload.kind == Kind::Presence {
                self.presence = Some(wire::decode(&payload.body, payload.body.len()).unwrap());
            }
        }
    }

    fn message<T: serde::Serialize>(&mut self, kind: Kind, start: Hash, body: &T) -> (Topic, Vec<u8>) {
        let (round, body) = (self.round, wire::encode(body));
        self.signed(Payload {
            version: PROTOCOL,
            swarm: self.swarm,
            kind,
            round,
            start,
            sender: self.identity.public(),
            sequence: 0,
            body,
        })
    }

    /// As its engine would sign it, but for a sequence number of its own.
    fn signed(&mut self, payload: Payload) -> (Topic, Vec<u8>) {
        self.made += 1;
        let topic = payload.kind.topic();
        let payload = wire::encode(&Payload { sequence: self.made, ..payload });
        let signature = Sig(self.identity.sign(ENVELOPE_DOMAIN, &payload));
        (topic, wire::encode(&Envelope { payload, signature }))
    }

    /// A hash that stands for nothing.
    fn any(&self) -> Hash {
        Hash::of("test", &[&self.identity.public().0, &self.made.to_le_bytes()])
    }

    fn sign(&self, statement: &Hash) -> Sig {
        let swarm = SwarmId(self.swarm.0);
        Sig(self.identity.sign(STATEMENT_DOMAIN, &signed_bytes(&swarm, statement)))
    }

    /// A statement of a view of its own, on the newest certificate.
    fn statement(&self) -> Vec<u8> {
        wire::encode(&Statement {
            view: self.made,
            round: self.round + 1,
            parent: self.start,
            commits: Bitmap::default(),
            answers: Bitmap::default(),
            critiques: Bitmap::default(),
            ballots: Bitmap::default(),
            items: self.any(),
            settlement: self.any(),
            state: self.any(),
            roster: vec![self.identity.public()],
            offenders: Vec::new(),
            degraded: false,
        })
    }
}

fn payload(bytes: &[u8]) -> Payload {
    let envelope: Envelope = wire::decode(bytes, bytes.len()).unwrap();
    wire::decode(&envelope.payload, bytes.len()).unwrap()
}

/// What no engine takes: noise, a signature of somebody else, another swarm's.
fn invalid(mut author: Author) -> Saying {
    Box::new(move |said| {
        author.follow(said);
        let mut make = |_| {
            let commit = Commit { commitment: author.any(), audit: None };
            let (topic, mut bytes) = author.message(Kind::Commit, author.start, &commit);
            match author.made % 3 {
                0 => bytes = author.any().0.to_vec(),
                1 => *bytes.last_mut().unwrap() ^= 1,
                _ => {
                    let payload = Payload { swarm: author.any(), ..payload(&bytes) };
                    (_, bytes) = author.signed(payload);
                }
            }
            (topic, bytes)
        };
        (0..BATCH).map(&mut make).collect()
    })
}

/// What a member may say, but never that often: that it is here, elsewhere each time; signatures and proposals of views
/// to come; promises for rounds that start with no known statement; certificates that nobody signed.
fn eager(mut author: Author) -> Saying {
    Box::new(move |said| {
        author.follow(said);
        let mut all = Vec::new();
        for _ in 0..BATCH {
            if let Some(presence) = author.presence.clone() {
                let address = format!("/ip4/127.0.0.1/tcp/{}", 1024 + author.made % 60_000);
                let presence = Presence { view: author.made, addresses: vec![address], ..presence };
                all.push(author.message(Kind::Presence, author.start, &presence));
            }
            let statement = author.any();
            let signature = author.sign(&statement);
            let signature = Signature { view: author.made, statement, signature };
            all.push(author.message(Kind::Signature, author.start, &signature));
            let statement = author.statement();
            all.push(author.message(
                Kind::Proposal,
                author.start,
                &Proposal { statement: statement.clone() },
            ));
            let peer = author.identity.public();
            let signatures = vec![Signed { peer, signature: signature.signature }];
            let certificate = Certificate { statement, signatures };
            all.push(author.message(Kind::Certificate, author.start, &certificate));
            let commit = Commit { commitment: author.any(), audit: None };
            all.push(author.message(Kind::Commit, author.any(), &commit));
        }
        all
    })
}

/// Each of its messages of a round again and again, every time another one.
fn contradictory(mut author: Author) -> Saying {
    let of_round = |payload: &Payload| {
        matches!(payload.kind, Kind::Commit | Kind::Reveal | Kind::Critique | Kind::Ballot)
    };
    let mut own: Vec<Payload> = Vec::new();
    Box::new(move |said| {
        own.extend(said.iter().map(|bytes| payload(bytes)).filter(of_round));
        let newest = own.iter().map(|payload| payload.round).max();
        own.retain(|payload| Some(payload.round) == newest);
        (0..BATCH).flat_map(|_| own.clone()).map(|payload| author.signed(payload)).collect()
    })
}

/// Nothing at all.
fn silent(_: Author) -> Saying {
    Box::new(|_| Vec::new())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_are_there_and_do_nothing_cost_a_deadline_a_round() {
    suffer(false, silent).await.hold();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_flood_invalid_messages_are_cut_off_and_rounds_go_on() {
    let outcome = suffer(true, invalid).await;
    outcome.hold();
    assert_eq!(outcome.spam.cut.len() as u64, LINKS);
    // Three are what a link's score can bear; a few more were read before the verdict on those.
    assert!(outcome.looked_at() <= 10 * LINKS, "{:?}", outcome.spam.verdicts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_say_too_much_in_good_form_do_not_hold_up_rounds() {
    let outcome = suffer(true, eager).await;
    outcome.hold();
    let seconds = outcome.spam.last.as_secs() + 2;
    let in_time = seconds * (HEARTBEATS_MAX as usize + SHARE_MESSAGES) as u64;
    let most = in_time + u64::from(ROUNDS[1] + 1) * early_each();
    assert!(outcome.passed_on() < LINKS * most, "{:?} in {seconds} s", outcome.spam.verdicts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_contradict_themselves_all_the_time_do_not_hold_up_rounds() {
    let outcome = suffer(true, contradictory).await;
    outcome.hold();
    // Who is behind by a certificate cannot compare yet what it keeps for later.
    assert!(outcome.passed_on() < LINKS * early_each(), "{:?}", outcome.spam.verdicts);
}

/// Messages of one peer that another one keeps for later.
fn early_each() -> u64 {
    (EARLY_ROUNDS_MAX * (3 + usize::from(COURSE.prompts))) as u64
}
