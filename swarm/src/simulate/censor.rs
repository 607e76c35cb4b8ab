//! A network that works against the swarm: it chooses who hears of a certificate, and when.
//!
//! It favours one of two peers at a time: that one alone hears signatures, so it alone makes certificates, and only
//! the peers of no side learn of them, from it. So two branches grow that both sides believe in. Agreement must bear
//! this for ever; only progress may suffer.

use super::adversary::payload;
use super::attack::Attack;
use super::seat::{Character, Seat};
use crate::message::Kind;
use crate::topic::Topic;

/// How long a step waits for its certificates, in milliseconds.
const PATIENCE_MS: u64 = 15_000;
/// How long nobody hears anything, in milliseconds: one view at least is void.
const SILENCE_MS: u64 = 2_500;

/// Who hears of certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Favour {
    Everybody,
    Nobody,
    Side(usize),
}

/// A favour and the certificates that end it.
type Step = (Favour, usize);

/// Each side in turn gets one certificate: whoever takes the second after a gap for the end of the matter has
/// taken the first one of either branch for final.
const FORK: &[Step] = &[
    (Favour::Everybody, 2),
    (Favour::Side(0), 1),
    (Favour::Side(1), 1),
    (Favour::Side(0), 1),
    (Favour::Side(1), 1),
];
/// One side gets two certificates in a row, so that the first is final; then the other, which is dishonest, ends the
/// same round again. The void view before makes its branch look as good as the first.
const REWIND: &[Step] =
    &[(Favour::Everybody, 2), (Favour::Nobody, 0), (Favour::Side(0), 2), (Favour::Side(1), 2)];

/// What the network does, step by step.
pub(super) struct Censor {
    /// The seats that can be favoured; everybody else learns from either.
    sides: [usize; 2],
    script: &'static [Step],
    step: usize,
    /// Certificates that the step still waits for.
    left: usize,
    until_ms: u64,
}

impl Censor {
    /// The network of an attack, where that is one of the network.
    pub(super) fn of(attack: Option<Attack>, seats: &[Seat]) -> Option<Self> {
        let script = match attack? {
            Attack::Fork => FORK,
            Attack::Rewind => REWIND,
            _ => return None,
        };
        let nth = |character, nth| {
            let mut of = (0..seats.len()).filter(|&seat| seats[seat].character == character);
            of.nth(nth)
        };
        let first = nth(Character::Honest, 0)?;
        let second = nth(Character::Dishonest, 0).or_else(|| nth(Character::Honest, 1))?;
        let mut censor = Self { sides: [first, second], script, step: 0, left: 0, until_ms: 0 };
        censor.enter(0, 0);
        Some(censor)
    }

    fn enter(&mut self, now_ms: u64, step: usize) {
        self.step = step.checked_rem(self.script.len()).unwrap_or(0);
        self.left = self.script.get(self.step).map_or(0, |(_, certificates)| *certificates);
        self.until_ms = now_ms + if self.favour() == Favour::Nobody { SILENCE_MS } else { PATIENCE_MS };
    }

    fn favour(&self) -> Favour {
        self.script.get(self.step).map_or(Favour::Everybody, |(favour, _)| *favour)
    }

    fn favoured(&self) -> Option<usize> {
        match self.favour() {
            Favour::Side(side) => self.sides.get(side).copied(),
            Favour::Everybody | Favour::Nobody => None,
        }
    }

    /// Time has passed and `new` certificates were made somewhere. A step without its certificates in time starts
    /// the script again.
    pub(super) fn mind(&mut self, now_ms: u64, new: usize) {
        let waits = self.left > 0;
        self.left = self.left.saturating_sub(new);
        if waits && self.left == 0 || !waits && now_ms >= self.until_ms {
            self.enter(now_ms, self.step + 1);
        } else if now_ms >= self.until_ms {
            self.enter(now_ms, 0);
        }
    }

    /// Whether a gossiped message may reach a seat.
    pub(super) fn passes(&self, from: usize, to: usize, topic: Topic, bytes: &[u8]) -> bool {
        if topic != Topic::Control || self.favour() == Favour::Everybody {
            return true;
        }
        match payload(bytes).map(|payload| payload.kind) {
            Some(Kind::Signature) => self.favoured() == Some(to),
            Some(Kind::Certificate) => self.repairs(from, to),
            _ => true,
        }
    }

    /// Whether one seat may tell another of certificates.
    pub(super) fn repairs(&self, from: usize, to: usize) -> bool {
        match self.favour() {
            Favour::Everybody => true,
            Favour::Nobody => false,
            Favour::Side(_) => self.favoured() == Some(from) && !self.sides.contains(&to),
        }
    }
}
