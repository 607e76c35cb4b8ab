"""Checks the log of a run from the text of swarm/README.md alone: every signature, every certificate, every tally.

    python verify.py LOG ANSWERS [--outcome FILE]

LOG is a peer's log, ANSWERS the reference answers of its rounds (JSON, by the hash of the statement that started a
round; see README.md beside this file). Prints what was checked, or the first thing that does not hold, and then
exits with 1. Nothing here shares code with the Rust implementation.
"""

import argparse
import itertools
import json
import sys
from collections import Counter, defaultdict

import blake3
import msgpack
import audits
import levels
import packs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PROTOCOL = 2
ENVELOPE_BYTES_MAX = 64 * 1024
INLINE_BYTES_MAX = 16 * 1024
CHUNK_BYTES = 64 * 1024
PROOF_BYTES_MAX = 2 * (ENVELOPE_BYTES_MAX + 512)
TOPIC_BYTES_MAX = {
    "presence": 4 * 1024,
    "commit": ENVELOPE_BYTES_MAX,
    "reveal": ENVELOPE_BYTES_MAX,
    "critique": ENVELOPE_BYTES_MAX,
    "ballot": ENVELOPE_BYTES_MAX,
    "proposal": 48 * 1024,
    "signature": 48 * 1024,
    "certificate": 48 * 1024,
    "proof": PROOF_BYTES_MAX,
}
ROUND_KINDS = ("commit", "critique", "ballot")
ROSTER_MAX = 256
OFFENDERS_MAX = 256
REPUTATIONS_MAX = 4096
VOTERS_MIN = 3
CRITIQUE_MIN = -4000
BALLOT_FULL = 1000
MICRO = 1_000_000
ZERO = bytes(32)
COMBINATIONS_MAX = 4096


class Wrong(Exception):
    """Something in the log that does not hold."""


def need(condition, what):
    if not condition:
        raise Wrong(what)


# Encoding, hashes, signatures


def hash_of(domain, *parts):
    hasher = blake3.blake3(derive_key_context=domain)
    for part in parts:
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.digest()


def u16(n):
    return n.to_bytes(2, "little")


def u32(n):
    return n.to_bytes(4, "little")


def u64(n):
    return n.to_bytes(8, "little")


def decode(data, what):
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False)
    except Exception as error:
        raise Wrong(f"{what} does not decode: {error}") from error


def encode(value):
    return msgpack.packb(value, use_bin_type=True)


def field(value, key, kind, what):
    """A field that must be there, of this type; bool is not a number here."""
    need(isinstance(value, dict) and key in value, f"{what} without {key}")
    found = value[key]
    ok = isinstance(found, kind) and (kind is not int or not isinstance(found, bool))
    need(ok, f"{what}: {key} is {type(found).__name__}")
    return found


def bytes_of(value, key, length, what):
    found = field(value, key, bytes, what)
    need(len(found) == length, f"{what}: {key} of {len(found)} bytes")
    return found


def signed_by(peer, domain, data, signature):
    message = bytes([len(domain)]) + domain + data
    try:
        Ed25519PublicKey.from_public_bytes(peer).verify(signature, message)
        return True
    except (InvalidSignature, ValueError):
        return False


# Frames of a log


def frames(data):
    """Position, chain before and body of each record. A frame that the file ends within is a torn tail and ends the log."""
    chain, at, number = ZERO, 0, 0
    while at < len(data):
        rest = data[at:]
        if not any(rest):
            return
        if len(rest) < 8:
            return
        length = int.from_bytes(rest[:4], "little")
        need(int.from_bytes(rest[4:8], "little") == length ^ 0xFFFFFFFF, f"record {number}: damaged length")
        if len(rest) < 16 + length:
            return
        body = rest[8 : 8 + length]
        before, chain = chain, hash_of("murmur v1 log", chain, body)
        need(rest[8 + length : 16 + length] == chain[:8], f"record {number}: damaged")
        yield number, before, body
        at += 16 + length
        number += 1


# Messages


class Message:
    def __init__(self, data, swarm, what):
        self.data = data
        envelope = decode(data, what)
        payload_bytes = field(envelope, "payload", bytes, what)
        signature = bytes_of(envelope, "signature", 64, what)
        payload = decode(payload_bytes, what)
        need(field(payload, "version", int, what) == PROTOCOL, f"{what}: another version")
        need(bytes_of(payload, "swarm", 32, what) == swarm, f"{what}: of another swarm")
        self.kind = field(payload, "kind", str, what)
        need(self.kind in TOPIC_BYTES_MAX, f"{what}: unknown kind {self.kind}")
        need(len(data) <= TOPIC_BYTES_MAX[self.kind], f"{what}: larger than its topic allows")
        self.round = field(payload, "round", int, what)
        self.start = bytes_of(payload, "start", 32, what)
        self.sender = bytes_of(payload, "sender", 32, what)
        field(payload, "sequence", int, what)
        need(signed_by(self.sender, b"murmur v1 envelope", payload_bytes, signature), f"{what}: signature")
        self.id = hash_of("murmur v1 message", payload_bytes)
        self.body = decode(field(payload, "body", bytes, what), what)
        self.what = f"{what} ({self.kind} of {self.sender.hex()[:8]}, round {self.round})"

    def slot(self):
        if self.kind in ROUND_KINDS:
            return (self.kind, self.start, self.sender)
        if self.kind == "reveal":
            return ("reveal", self.start, self.sender, field(self.body, "prompt", int, self.what))
        return None

    def claim(self):
        """(author, slot, content), as a proof of equivocation compares them."""
        if self.kind == "proposal":
            statement = field(self.body, "statement", bytes, self.what)
            view = field(decode(statement, self.what), "view", int, self.what)
            return self.sender, ("proposal", view), hash_of("murmur v1 statement", statement)
        if self.kind == "signature":
            view = field(self.body, "view", int, self.what)
            return self.sender, ("signature", view), bytes_of(self.body, "statement", 32, self.what)
        need(self.slot() is not None, f"{self.what}: evidence without a slot")
        return self.sender, self.slot(), self.id


def candidates_rise(lists, manifest, what):
    need(isinstance(lists, list) and len(lists) <= manifest["round"]["prompts"], f"{what}: too many prompts")
    for of_prompt in lists:
        ids = [bytes_of(entry, "candidate", 8, what) for entry in of_prompt]
        need(all(a < b for a, b in zip(ids, ids[1:])), f"{what}: candidates do not rise")


def admit(message, manifest):
    """Bounds that every honest peer rejects a body beyond."""
    body, what, rules = message.body, message.what, manifest["round"]
    if message.kind == "commit":
        bytes_of(body, "commitment", 32, what)
    elif message.kind == "reveal":
        texts = field(body, "completions", list, what)
        need(body["prompt"] < rules["prompts"] and len(texts) <= rules["completions"], f"{what}: beyond the manifest")
        need(all(len(text.encode()) <= rules["completion_bytes_max"] for text in texts), f"{what}: too long a text")
        if body.get("body") is None:
            need(len(encode(texts)) <= INLINE_BYTES_MAX, f"{what}: completions that belong in a blob")
        else:
            longest = 5 + rules["completions"] * (5 + rules["completion_bytes_max"])
            need(not texts, f"{what}: both completions and a blob")
            need(INLINE_BYTES_MAX < body["body"]["blob"]["len"] <= longest, f"{what}: length of the blob")
        need(len(field(body, "numerics", str, what).encode()) <= 32, f"{what}: too long a name")
    elif message.kind == "critique":
        candidates_rise(field(body, "prompts", list, what), manifest, what)
        scores = [entry["millinats"] for of_prompt in body["prompts"] for entry in of_prompt]
        need(all(CRITIQUE_MIN <= score <= 0 for score in scores), f"{what}: out of range")
        texts = body.get("texts", [])
        candidates_rise(texts, manifest, what)
        texts = [text for of_prompt in texts for text in of_prompt]
        need(not texts or rules.get("critiques", "off") != "off", f"{what}: texts in a swarm without them")
        need(len(texts) <= 16, f"{what}: too many texts")
        for text in texts:
            need(text["verdict"] in ("right", "wrong", "unclear"), f"{what}: verdict")
            need(len(text["reason"].encode()) <= 256, f"{what}: too long a reason")
    elif message.kind == "ballot":
        candidates_rise(field(body, "prompts", list, what), manifest, what)
        sums = [sum(entry["permille"] for entry in of_prompt) for of_prompt in body["prompts"]]
        need(all(total <= BALLOT_FULL for total in sums), f"{what}: more than 1000 permille")
        said = body.get("packs", [])
        need(len(said) <= packs.VOTES_MAX and is_sorted([vote["pack"] for vote in said]), f"{what}: order of packs")
        need(all(1 <= vote["weight"] <= packs.WEIGHT_MAX for vote in said), f"{what}: weight of a pack")


# Proofs of equivocation


def evidence(value, swarm, what):
    need(isinstance(value, dict) and len(value) == 1, f"{what}: evidence")
    (kind, inner), = value.items()
    if kind == "envelope":
        return Message(inner, swarm, what).claim()
    need(kind == "signature", f"{what}: evidence")
    statement = field(inner, "statement", bytes, what)
    signed = field(inner, "signed", dict, what)
    peer, signature = bytes_of(signed, "peer", 32, what), bytes_of(signed, "signature", 64, what)
    name = hash_of("murmur v1 statement", statement)
    need(signed_by(peer, b"murmur v1 statement", swarm + name, signature), f"{what}: evidence is not signed")
    return peer, ("signature", field(decode(statement, what), "view", int, what)), name


def offender(proof, swarm, what):
    """Whom a proof convicts."""
    first, second = (evidence(field(proof, key, dict, what), swarm, what) for key in ("first", "second"))
    need(first[0] == second[0] and first[1] == second[1] and first[2] != second[2], f"{what}: proves nothing")
    return first[0]


# Merkle tree and commitments


def merkle_climb(leaf, index, count, siblings):
    if index >= count:
        return None
    at, width, rest = leaf, count, list(siblings)
    while width > 1:
        if index ^ 1 < width:
            if not rest:
                return None
            sibling = rest.pop(0)
            pair = (at, sibling) if index % 2 == 0 else (sibling, at)
            at = hash_of("murmur v1 merkle node", *pair)
        index //= 2
        width = (width + 1) // 2
    return None if rest else at


def blob_hash(data):
    chunks = (data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES))
    outline = b"".join(hash_of("murmur v1 blob chunk", chunk) for chunk in chunks)
    return hash_of("murmur v1 blob", u32(len(data)), outline)


def leaf_of(prompt, texts):
    leaf = u16(prompt)
    for text in texts:
        leaf += u32(len(text.encode())) + text.encode()
    return hash_of("murmur v1 merkle leaf", leaf)


def texts_of(reveal, blobs):
    """A reveal's completions: its own, or those of the blob that it names."""
    named = reveal.body.get("body")
    if named is None:
        return reveal.body["completions"]
    texts = blobs.get(named["blob"]["hash"])
    need(texts is not None, f"{reveal.what}: the log does not have the body that it names")
    need(leaf_of(reveal.body["prompt"], texts) == named["leaf"], f"{reveal.what}: its body holds other texts")
    return texts


def is_covered(commit, reveal, blobs, swarm, prompts):
    body = reveal.body
    leaf = leaf_of(body["prompt"], texts_of(reveal, blobs))
    root = merkle_climb(leaf, body["prompt"], prompts, body["proof"])
    if root is None:
        return False
    parts = [swarm, u32(reveal.round), reveal.sender, body["nonce"], root, body["policy"], body["numerics"].encode()]
    return hash_of("murmur v1 commitment", *parts) == commit.body["commitment"]


# Statements and certificates


def positions(bitmap, members, what):
    need(not bitmap or bitmap[-1] != 0, f"{what}: a set with a trailing zero")
    found = [i for i in range(8 * len(bitmap)) if bitmap[i // 8] >> (i % 8) & 1]
    need(all(i < members for i in found), f"{what}: a set beyond the roster")
    return found


def is_sorted(keys):
    return all(a < b for a, b in zip(keys, keys[1:]))


def quorum(n, faults):
    if faults == "crash" or faults == "auto" and n < 4:
        return n // 2 + 1
    return 2 * n // 3 + 1


class Link:
    """A certificate at its place in the chain."""

    def __init__(self, data, manifest, swarm, parent, what):
        certificate = decode(data, what)
        self.bytes = field(certificate, "statement", bytes, what)
        self.statement = s = decode(self.bytes, what)
        self.hash = hash_of("murmur v1 statement", self.bytes)
        self.parent = parent
        self.view, self.round = field(s, "view", int, what), field(s, "round", int, what)
        self.what = what = f"{what} (certificate of view {self.view})"
        self.roster = field(s, "roster", list, what)
        self.offenders = s.get("offenders", [])
        self.degraded = s.get("degraded", False)
        need(1 <= len(self.roster) <= ROSTER_MAX and is_sorted(self.roster), f"{what}: roster")
        self.check_place(swarm, manifest)
        self.check_sets()
        self.check_offenders()
        self.check_signatures(field(certificate, "signatures", list, what), manifest, swarm)
        self.place()

    def check_place(self, swarm, manifest):
        parent, what = self.parent, self.what
        named = bytes_of(self.statement, "parent", 32, what)
        need(named == (parent.hash if parent else swarm), f"{what}: does not build on the certificate before")
        view, round_before = (parent.view, parent.round) if parent else (0, 0)
        need(self.view > view and self.round == round_before + 1, f"{what}: view or round")
        allowed = manifest.get("available", False) and parent is not None
        need(not self.degraded or allowed, f"{what}: degraded where that is not allowed")

    def check_sets(self):
        members = len(self.parent.roster) if self.parent else 0
        sets = ("commits", "answers", "critiques", "ballots")
        self.sets = {key: positions(field(self.statement, key, bytes, self.what), members, self.what) for key in sets}
        need(set(self.sets["answers"]) <= set(self.sets["commits"]), f"{self.what}: answers without a commit")

    def check_offenders(self):
        before = self.parent.offenders if self.parent else []
        need(is_sorted(self.offenders) and len(self.offenders) <= OFFENDERS_MAX, f"{self.what}: offenders")
        need(set(before) <= set(self.offenders), f"{self.what}: forgets an offender")
        need(not set(self.roster) & set(self.offenders), f"{self.what}: an offender in the roster")
        ending = self.parent.roster if self.parent else []
        included = {ending[i] for of in self.sets.values() for i in of}
        need(not included & set(self.offenders), f"{self.what}: includes a message of an offender")

    def check_signatures(self, signatures, manifest, swarm):
        signers = set()
        for signed in signatures:
            peer, signature = bytes_of(signed, "peer", 32, self.what), bytes_of(signed, "signature", 64, self.what)
            valid = signed_by(peer, b"murmur v1 statement", swarm + self.hash, signature)
            need(valid, f"{self.what}: signature of {peer.hex()[:8]}")
            signers.add(peer)
        for peers, needed in self.electorates(manifest):
            count = len(signers & set(peers))
            need(count >= needed, f"{self.what}: {count} signatures where {needed} are needed")
        self.signers = signers

    def electorates(self, manifest):
        faults = manifest["faults"]
        listed = sorted(bytes.fromhex(key) for key in manifest["genesis"]["peers"])
        if self.parent is None:
            if listed:
                return [(listed, quorum(len(listed), faults))]
            return [(self.roster, max(len(self.roster), manifest["genesis"]["peers_min"]))]
        rosters = self.parent.generations
        if self.degraded:
            return [(rosters[0], len(rosters[0]) // 3 + 1)]
        return [(peers, quorum(len(peers), faults)) for peers in rosters]

    def place(self):
        """E(x), E(parent), E(grandparent), and what this certificate makes final."""
        parent = self.parent
        if parent is None:
            self.generations, self.makes_final = None, None
            return
        newest = parent.generations[0]
        self.makes_final = None
        if not self.degraded and not parent.degraded and self.view == parent.view + 1:
            newest, self.makes_final = parent.roster, parent
        self.generations = [newest] + parent.generations[:2]


def first_generations(link, manifest):
    listed = sorted(bytes.fromhex(key) for key in manifest["genesis"]["peers"])
    link.generations = [listed or link.roster] * 3


# Answers


def canonical(form, text):
    if form == "integer":
        digits = text[1:] if text.startswith("-") else text
        plain = 1 <= len(digits) <= 18 and all(c in "0123456789" for c in digits)
        return text if plain and (text == "0" or not digits.startswith("0")) else None
    if form == "choice":
        text = text.strip()
        return text.upper() if len(text) == 1 and text.isascii() and text.isalpha() else None
    text = " ".join(text.split())
    return text if 1 <= len(text.encode()) <= 64 else None


def answer_of(form, completion):
    if len(completion.encode()) > 16 * 1024:
        return None
    rest = completion
    if completion.startswith("<think>") and "</think>" in completion:
        rest = completion[len("<think>") :].split("</think>", 1)[1]
    if not (rest.startswith("<answer>") and rest[len("<answer>") :].endswith("</answer>")):
        return None
    inner = rest[len("<answer>") : -len("</answer>")]
    return None if "<" in inner else canonical(form, inner)


def candidate_id(prompt, answer):
    return blake3.blake3(b"murmur/candidate/1\0" + u16(prompt) + answer.encode()).digest()[:8]


# The judge. State and settlement are dictionaries with fields in the order of the specification.


def new_reputation(founder):
    return {
        "founder": founder,
        "gold_ballots": 0,
        "successes_micro": MICRO,
        "trials_micro": 3 * MICRO,
        "liveness_permille": 1000,
        "critique_micro": 0,
        "critique_trials_micro": 0,
    }


def founded_by(founders):
    reputations = {peer: new_reputation(True) for peer in sorted(founders)}
    return {"reputations": reputations, "pending": {}, "anchored": False, "rounds": 0, "critics": {}, "pending_verdicts": {}, "audits": audits.none(), "packs": packs.none(), "courses": {}}


def in_order(table):
    return {key: table[key] for key in sorted(table)}


def encoded_state(state):
    value = {key: in_order(state[key]) if isinstance(state[key], dict) else state[key] for key in state}
    for key in ("pending", "pending_verdicts"):
        value[key] = {index: of for index, of in value[key].items()}
    for key in ("critics", "pending_verdicts"):
        if not value[key]:
            del value[key]
    value["audits"] = audits.encoded(state["audits"])
    value["packs"] = packs.encoded(state["packs"])
    for key in ("audits", "packs"):
        if not any(value[key].values()):
            del value[key]
    if not value["courses"]:
        del value["courses"]
    return value


def towards_zero(numerator, denominator):
    quotient = abs(numerator) // abs(denominator)
    return quotient if (numerator < 0) == (denominator < 0) else -quotient


def aged(rules, micro):
    kept = abs(micro) * min(rules["weight_decay_permille"], 1000) // 1000
    return kept if micro >= 0 else -kept


def accuracy(reputation):
    if reputation["trials_micro"] == 0:
        return MICRO // 3
    return min(reputation["successes_micro"] * MICRO // reputation["trials_micro"], MICRO)


def weights_of(rules, state, roster):
    probation = state["rounds"] == 0 or state["anchored"] or bool(state["pending"])
    newcomer = new_reputation(not state["reputations"])
    members = {peer: state["reputations"].get(peer, newcomer) for peer in sorted(set(roster))}

    def counts(peer, r):
        tried = r["founder"] or r["gold_ballots"] >= rules["probation_ballots"]
        return (tried or not probation) and not audits.is_suspended(state["audits"], peer)

    accuracies = sorted(accuracy(r) for peer, r in members.items() if counts(peer, r))
    best = accuracies[-1] if accuracies else 0
    median = accuracies[len(accuracies) // 2] if accuracies else 0
    if median:
        best = min(best, median * max(rules["weight_cap_permille"], 1000) // 1000)

    def weight(peer, r):
        if not counts(peer, r):
            return 0
        ratio = MICRO if not state["anchored"] or best == 0 else min(accuracy(r), best) * MICRO // best
        if r["gold_ballots"] >= rules["cut_after_ballots"] and ratio < rules["cut_permille"] * MICRO // 1000:
            return 0
        return ratio * min(r["liveness_permille"], 1000) // 1000

    return {peer: weight(peer, r) for peer, r in members.items()}


def carry_most(weights, which):
    return 2 * sum(w for peer, w in weights.items() if which(peer)) > sum(weights.values())


def draw_gold(rules, state, seed):
    """Tries the ballots and verdicts on the gold of the round before; changes `state`, returns the report."""
    before_weights_state = dict(state, reputations={p: dict(r) for p, r in state["reputations"].items()})
    pending, pending_verdicts = state["pending"], state["pending_verdicts"]
    state["pending"], state["pending_verdicts"] = {}, {}
    count = max(1, (len(pending) * min(rules["gold_share_permille"], 1000) + 500) // 1000)
    lots = sorted((blake3.blake3(b"murmur/gold/1\0" + seed + u32(index)).digest(), index) for index in pending)
    drawn = sorted(index for _, index in lots[:count])
    report = {
        "drawn": drawn,
        "consensus_right": sum(pending[i]["consensus_right"] for i in drawn),
        "labels": sum(pending[i]["labels"] for i in drawn),
        "labels_right": sum(pending[i]["labels_right"] for i in drawn),
    }
    masses, rankings = defaultdict(list), defaultdict(list)
    for index in drawn:
        for peer, mass in pending[index]["mass_permille"].items():
            masses[peer].append(min(mass, BALLOT_FULL))
        for peer, ranking in pending[index]["ranking_permille"].items():
            rankings[peer].append(max(-1000, min(1000, ranking)))
    state["anchored"] = state["anchored"] or bool(drawn)
    report["ballots"] = {
        peer: {"tried": len(masses[peer]), "mass_permille": sum(masses[peer]) // len(masses[peer])}
        for peer in sorted(masses)
    }

    def fails(peer):
        known = before_weights_state["reputations"].get(peer)
        usual = accuracy(known) if known else MICRO // 3
        return report["ballots"][peer]["mass_permille"] * 1000 * 4 < usual

    report["forgiven"] = carry_most(weights_of(rules, before_weights_state, masses), fails)
    for peer, of_peer in masses.items():
        r = state["reputations"].get(peer)
        if r and not report["forgiven"]:
            r["gold_ballots"] += len(of_peer)
            r["successes_micro"] = aged(rules, r["successes_micro"]) + sum(of_peer) * 1000
            r["trials_micro"] = aged(rules, r["trials_micro"]) + len(of_peer) * MICRO
    for peer, of_peer in rankings.items():
        r = state["reputations"].get(peer)
        if r:
            r["critique_micro"] = aged(rules, r["critique_micro"]) + sum(of_peer) * 1000
            r["critique_trials_micro"] = aged(rules, r["critique_trials_micro"]) + len(of_peer) * MICRO
    critics = defaultdict(lambda: {"right": 0, "right_sum": 0, "wrong": 0, "wrong_sum": 0})
    for index in drawn:
        for peer, verdicts in pending_verdicts.get(index, {}).items():
            for key in verdicts:
                critics[peer][key] += verdicts[key]
    for peer, tried in critics.items():
        nothing = {"right_sum_micro": 0, "right_micro": 0, "wrong_sum_micro": 0, "wrong_micro": 0}
        old = state["critics"].get(peer, nothing)
        state["critics"][peer] = {
            f"{key}_micro": aged(rules, old[f"{key}_micro"]) + tried[key] * MICRO
            for key in ("right_sum", "right", "wrong_sum", "wrong")
        }
    if critics:
        report["critics"] = in_order(critics)
    return report


def exp_table():
    """exp(3x / 1000) for x = 0, −1, … −4000 with 32 fractional bits."""
    total = term = 1 << 64
    n = 1
    while term > 0:
        term = term * 3 // (1000 * n)
        total += term if n % 2 == 0 else -term
        n += 1
    table, value = [], 1 << 64
    for _ in range(-CRITIQUE_MIN + 1):
        table.append((value + (1 << 31)) >> 32)
        value = (value * total + (1 << 63)) >> 64
    return table


EXP = exp_table()


class Tally:
    """One prompt's valid votes."""

    def __init__(self, weights, votes):
        self.weights, self.votes, self.voids = weights, votes, []
        self.authors = defaultdict(set)
        for peer, completions in votes["completions"].items():
            for candidate in completions:
                if peer in weights and candidate is not None:
                    self.authors[candidate].add(peer)
        self.ballots = {}
        for peer in sorted(votes["ballots"]):
            self.cast(peer, votes["ballots"][peer])
        self.critiques = {}
        for peer, critiques in votes["critiques"].items():
            counted = {c: max(CRITIQUE_MIN, min(0, x)) for c, x in critiques.items() if self.may_speak(peer, c)}
            if weights.get(peer, 0) > 0 and counted:
                self.critiques[peer] = counted

    def cast(self, peer, ballot):
        if peer not in self.weights:
            self.voids.append((peer, "not_in_roster"))
        elif sum(ballot.values()) > BALLOT_FULL:
            self.voids.append((peer, "overfull"))
        else:
            if any(candidate not in self.authors for candidate in ballot):
                self.voids.append((peer, "unknown_candidate"))
            self.ballots[peer] = {c: p for c, p in ballot.items() if c in self.authors}

    def may_speak(self, peer, candidate):
        authors = self.authors.get(candidate)
        return bool(authors) and authors != {peer}

    def median(self, candidate, except_peer):
        """The lower weighted median of the critiques of one candidate; silence counts as the worst."""
        entries, silent = [], 0
        for peer, critiques in self.critiques.items():
            if peer == except_peer or not self.may_speak(peer, candidate):
                continue
            if candidate in critiques:
                entries.append((critiques[candidate], self.weights[peer]))
            else:
                silent += self.weights[peer]
        whole = silent + sum(weight for _, weight in entries)
        if silent * 2 >= whole:
            return CRITIQUE_MIN
        running = silent
        for critique, weight in sorted(entries):
            running += weight
            if running * 2 >= whole:
                return critique
        raise AssertionError("the last entry reaches the whole")

    def winner(self, except_peer=None):
        """(candidate, share, supporters) of the highest score; the lowest id among equals; None without votes."""
        whole = sum(w for peer, w in self.weights.items() if peer != except_peer)
        critics = sum(self.weights[peer] for peer in self.critiques if peer != except_peer)
        heard = critics * 2 >= whole and bool(self.critiques)
        best = None
        for candidate in sorted(self.authors):
            mass = supporters = 0
            for peer, ballot in self.ballots.items():
                part = ballot.get(candidate, 0) * self.weights[peer]
                if peer != except_peer and part > 0:
                    mass += part
                    supporters += 1
            if mass == 0:
                continue
            score = mass * EXP[-(self.median(candidate, except_peer) if heard else 0)]
            if best is None or score > best[0]:
                best = (score, (candidate, mass // whole, supporters))
        return best[1] if best else None

    def label(self, rules, peer):
        winner = self.winner(peer)
        candidate, share, supporters = winner or (None, 0, 0)
        reason = None
        if sum(w > 0 for w in self.weights.values()) < VOTERS_MIN:
            reason = "too_few_voters"
        elif winner is None:
            reason = "no_ballots"
        elif share < rules["tau_permille"]:
            reason = "below_gate"
        elif supporters < rules["supporters_min"]:
            reason = "too_few_supporters"
        if reason:
            values = {"best": candidate, "share_permille": share, "supporters": supporters, "reason": reason}
            return {"Undecided": values}
        return {"Decided": {"candidate": candidate, "share_permille": share, "supporters": supporters}}

    def mass(self, peer, candidate):
        return self.ballots.get(peer, {}).get(candidate, 0)

    def ranking(self, peer, critiques, gold):
        counted = {c: max(CRITIQUE_MIN, min(0, x)) for c, x in critiques.items() if self.may_speak(peer, c)}
        if gold not in counted:
            return None
        wrong = [x for c, x in counted.items() if c != gold]
        if not wrong:
            return None
        wins = sum((counted[gold] > x) - (counted[gold] < x) for x in wrong)
        return towards_zero(wins * 1000, len(wrong))


def decided(label):
    return label.get("Decided", {}).get("candidate")


def settle_prompt(rules, tally, votes):
    winner = tally.winner()
    consensus = None
    if winner:
        consensus = {"candidate": winner[0], "share_permille": winner[1], "supporters": winner[2]}
    labels = {peer: tally.label(rules, peer) for peer in sorted(tally.weights)}
    rewards = {}
    for peer, label in labels.items():
        if decided(label) is not None and peer in votes["completions"]:
            rewards[peer] = [1000 if c == decided(label) else 0 for c in votes["completions"][peer]]
    strays = [
        (peer, "unassigned_verdict")
        for peer in sorted(votes["verdicts"])
        if any(c not in votes["assigned"].get(peer, ()) for c in votes["verdicts"][peer])
    ]
    return {
        "consensus": consensus,
        "labels": labels,
        "rewards": rewards,
        "candidates": len(tally.authors),
        "voids": [{"peer": peer, "reason": reason} for peer, reason in tally.voids + strays],
    }


def pend(tally, voters, votes, settled):
    """What the next settlement needs in case this prompt is drawn as gold."""
    gold = votes["gold"]
    labels = [decided(label) for label in settled["labels"].values() if decided(label) is not None]
    mass, ranking = {}, {}
    for peer in sorted(tally.weights):
        answered, voted = votes["completions"].get(peer), votes["ballots"].get(peer)
        if peer in voters and (answered or voted):
            mass[peer] = tally.mass(peer, gold)
        found = tally.ranking(peer, votes["critiques"][peer], gold) if peer in votes["critiques"] else None
        if found is not None:
            ranking[peer] = found
    consensus = settled["consensus"]
    return {
        "mass_permille": mass,
        "ranking_permille": ranking,
        "consensus_right": consensus is not None and consensus["candidate"] == gold,
        "labels": len(labels),
        "labels_right": sum(label == gold for label in labels),
    }


def try_verdicts(votes, speakers):
    tried = {}
    for peer in sorted(votes["assigned"]):
        if peer not in speakers:
            continue
        counts = {"right": 0, "right_sum": 0, "wrong": 0, "wrong_sum": 0}
        for candidate in votes["assigned"][peer]:
            kind = "right" if candidate == votes["gold"] else "wrong"
            verdict = votes["verdicts"].get(peer, {}).get(candidate, "unclear")
            counts[kind] += 1
            counts[f"{kind}_sum"] += 0 if verdict == "unclear" else 1 if verdict == kind else -1
        tried[peer] = counts
    return tried


def conduct_of(rules, state, weights, conduct):
    clean = {peer: all(conduct[peer].values()) for peer in weights}
    forgiven = carry_most(weights, lambda peer: not clean[peer])
    for peer in weights:
        r, did = state["reputations"][peer], conduct[peer]
        kept = min(r["liveness_permille"], 1000)
        if clean[peer]:
            r["liveness_permille"] = min(1000, r["liveness_permille"] + rules["recovery_permille"])
        elif not forgiven:
            withheld = did["committed"] and not did["revealed"]
            part = rules["withheld_permille" if withheld else "missed_permille"]
            r["liveness_permille"] = kept * min(part, 1000) // 1000
    return forgiven


def forget(state, roster):
    kept = {
        peer: r
        for peer, r in state["reputations"].items()
        if r["founder"] or r["gold_ballots"] > 0 or peer in roster
    }
    excess = max(0, len(kept) - REPUTATIONS_MAX)
    absent = sorted((r["gold_ballots"], peer) for peer, r in kept.items() if peer not in roster)
    for _, peer in absent[:excess]:
        del kept[peer]
    state["reputations"] = kept
    state["critics"] = {peer: of for peer, of in state["critics"].items() if peer in kept}
    for key in ("records", "disputes"):
        state["audits"][key] = {peer: of for peer, of in state["audits"][key].items() if peer in kept}


def settle(rules, before, roster, prompts, gold_seed, conduct, said_of_audits, said_of_packs, pack_quorum):
    """The settlement of a round; its last field is the state after it. `before` is not changed."""
    state = {key: dict(value) if isinstance(value, dict) else value for key, value in before.items()}
    state["reputations"] = {peer: dict(r) for peer, r in before["reputations"].items()}
    founders = not state["reputations"]
    for peer in roster:
        state["reputations"].setdefault(peer, new_reputation(founders))
    gold = draw_gold(rules, state, gold_seed)
    old = before["audits"]
    state["audits"] = dict(old, records={peer: dict(record) for peer, record in old["records"].items()})
    voted = {peer for peer in conduct if conduct[peer]["voted"]}
    audit_rules = rules.get("audit", audits.DEFAULT_RULES)
    reports = audits.close(audit_rules, state["audits"], state["rounds"], roster, gold_seed, voted, said_of_audits)
    weights = weights_of(rules, state, roster)
    state["packs"] = packs.copied(before["packs"])
    outcomes = packs.count(state["packs"], state["rounds"] + 2, roster, pack_quorum, said_of_packs)
    voters = {peer for votes in prompts for peer, ballot in votes["ballots"].items() if ballot}
    speakers = {
        peer
        for votes in prompts
        for peer, assigned in votes["assigned"].items()
        if any(c in assigned for c in votes["verdicts"].get(peer, ()))
    }
    settled, voids, staged = [], Counter(), []
    labels_decided = labels_undecided = prompts_undecided = 0
    for index, votes in enumerate(prompts):
        tally = Tally(weights, votes)
        prompt = settle_prompt(rules, tally, votes)
        pending = pend(tally, voters, votes, prompt) if votes["gold"] is not None else None
        if votes["stage"]:
            staged.append((votes["stage"], levels.success(votes, weights, pending, prompt)))
        if votes["gold"] is not None:
            state["pending"][index] = pending
            tried = try_verdicts(votes, speakers & set(roster))
            if tried:
                state["pending_verdicts"][index] = tried
        count = sum(decided(label) is not None for label in prompt["labels"].values())
        labels_decided += count
        labels_undecided += len(prompt["labels"]) - count
        prompts_undecided += count == 0
        voids.update(void["reason"] for void in prompt["voids"])
        settled.append(prompt)
    moved, curriculum = {}, rules.get("curriculum")
    if curriculum:
        state["courses"] = {family: dict(course) for family, course in before["courses"].items()}
        moved = levels.advance(curriculum, state["courses"], staged)
    anchored = state["anchored"]
    forgiven = conduct_of(rules, state, weights, conduct)
    forget(state, set(roster))
    state["rounds"] += 1
    reasons = ("not_in_roster", "overfull", "unknown_candidate", "unassigned_verdict")
    return {
        "prompts": settled,
        "weights": weights,
        "anchored": anchored,
        "gold": gold,
        "labels_decided": labels_decided,
        "labels_undecided": labels_undecided,
        "prompts_undecided": prompts_undecided,
        "voids": {reason: voids[reason] for reason in reasons if voids[reason]},
        "conduct_forgiven": forgiven,
        **({"audits": reports} if reports else {}),
        **({"packs": outcomes} if outcomes else {}),
        **({"levels": moved} if moved else {}),
        "next": state,
    }


# Critics


def mix(z):
    mask = (1 << 64) - 1
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
    return z ^ (z >> 31)


def assign(beacon, nonces, prompts):
    """Per prompt, the candidates that each critic was to judge in words."""

    def tag(peer):
        data = b"murmur/critic/1\0" + beacon + peer + nonces[peer]
        return int.from_bytes(blake3.blake3(data).digest()[:8], "little")

    tags = {peer: tag(peer) for peer in nonces}
    tasks = defaultdict(list)
    for index, votes in enumerate(prompts):
        authors = defaultdict(set)
        for peer, completions in votes["completions"].items():
            for candidate in completions:
                if candidate is not None:
                    authors[candidate].add(peer)
        for candidate, by in authors.items():
            number = int.from_bytes(candidate, "little")
            able = [peer for peer in tags if by != {peer}]
            ranked = sorted((peer in by, mix(tags[peer] ^ number), peer) for peer in able)
            for _, rank, peer in ranked[:2]:
                tasks[peer].append((rank, index, candidate))
    assigned = [defaultdict(set) for _ in prompts]
    for peer, of_peer in tasks.items():
        for _, index, candidate in sorted(of_peer)[:16]:
            assigned[index][peer].add(candidate)
    return assigned


# A round


class Round:
    """The messages that a statement includes, and what they settle to."""

    def __init__(self, link, chosen, blobs, manifest, swarm, answers):
        self.link, self.start, self.manifest = link, link.parent, manifest
        self.roster = link.parent.roster
        self.swarm, self.chosen, self.blobs = swarm, chosen, blobs
        self.beacon = hash_of("murmur v1 beacon", link.parent.hash)
        self.answers = answers

    def of(self, kind, place, *rest):
        key = (kind, self.start.hash, self.roster[place], *rest)
        message = self.chosen.get(key)
        need(message is not None, f"{self.link.what}: includes a {kind} that the log does not have")
        return message

    def items(self):
        sets, prompts = self.link.sets, self.manifest_prompts()
        ids = [self.of("commit", i).id for i in sets["commits"]]
        ids += [self.of("reveal", i, prompt).id for i in sets["answers"] for prompt in range(prompts)]
        ids += [self.of("critique", i).id for i in sets["critiques"]]
        ids += [self.of("ballot", i).id for i in sets["ballots"]]
        return hash_of("murmur v1 items", *ids)

    def manifest_prompts(self):
        return len(self.answers)

    def check_reveals(self):
        for i in self.link.sets["answers"]:
            commit = self.of("commit", i)
            for prompt in range(self.manifest_prompts()):
                reveal = self.of("reveal", i, prompt)
                covered = is_covered(commit, reveal, self.blobs, self.swarm, self.manifest_prompts())
                need(covered, f"{reveal.what}: not what its author committed to")

    def votes(self):
        sets, prompts = self.link.sets, []
        for index, known in enumerate(self.answers):
            completions = {}
            for i in sets["answers"]:
                texts = texts_of(self.of("reveal", i, index), self.blobs)
                answers = [answer_of(known["form"], text) for text in texts]
                completions[self.roster[i]] = [None if a is None else candidate_id(index, a) for a in answers]
            gold = known.get("answer")
            prompts.append({
                "completions": completions,
                "ballots": self.entries("ballot", "permille", index),
                "critiques": self.entries("critique", "millinats", index),
                "gold": None if gold is None else candidate_id(index, gold),
                "assigned": {},
                "verdicts": {},
                "stage": tuple(known["stage"]) if "stage" in known else None,
            })
        if self.manifest["round"].get("critiques", "off") != "off":
            self.hear(prompts)
        return prompts

    def entries(self, kind, value, index):
        found = {}
        for i in self.link.sets["ballots" if kind == "ballot" else "critiques"]:
            lists = self.of(kind, i).body["prompts"]
            if index < len(lists):
                found[self.roster[i]] = {entry["candidate"]: entry[value] for entry in lists[index]}
        return found

    def hear(self, prompts):
        """Adds what critics said in words, and who was to say something."""
        written = {self.roster[i]: self.of("critique", i).body.get("texts", []) for i in self.link.sets["critiques"]}
        if not any(text for of_peer in written.values() for text in of_peer):
            return
        nonces = {self.roster[i]: self.of("reveal", i, 0).body["nonce"] for i in self.link.sets["answers"]}
        for index, (votes, assigned) in enumerate(zip(prompts, assign(self.beacon, nonces, prompts))):
            votes["assigned"] = dict(assigned)
            for peer, texts in written.items():
                for text in texts[index] if index < len(texts) else []:
                    votes["verdicts"].setdefault(peer, {})[text["candidate"]] = text["verdict"]

    def settle(self, state):
        sets = self.link.sets
        conduct = {
            peer: {"committed": i in sets["commits"], "revealed": i in sets["answers"], "voted": i in sets["ballots"]}
            for i, peer in enumerate(self.roster)
        }
        judge, audited = self.manifest["judge"], self.audit_votes()
        ballots = {self.roster[i]: self.of("ballot", i).body.get("packs", []) for i in sets["ballots"]}
        needed = None if self.link.degraded else quorum(len(self.roster), self.manifest["faults"])
        return settle(judge, state, self.roster, self.votes(), self.beacon, conduct, audited, ballots, needed)

    def audit_votes(self):
        """Offers, findings that were sealed, and hashes of opened secrets."""
        said = {"offers": {}, "findings": {}, "opened": {}}
        for i in self.link.sets["answers"]:
            offer = self.of("commit", i).body.get("audit")
            if offer:
                said["offers"][self.roster[i]] = {"seal": offer["seal"]}
        critiques = set(self.link.sets["critiques"])
        for i in self.link.sets["ballots"]:
            peer, opened = self.roster[i], self.of("ballot", i).body.get("audits")
            if not opened:
                continue
            seal = hash_of("murmur v1 findings", self.beacon, peer, opened["nonce"], encode(opened["findings"]))
            if i in critiques and self.of("critique", i).body.get("audits") == seal:
                said["findings"][peer] = {found["peer"]: found["finding"] for found in opened["findings"]}
            secrets = opened.get("planted", [])
            said["opened"][peer] = {hash_of("murmur v1 planted", peer, secret) for secret in secrets}
        return said


def encoded_settlement(settlement):
    value = dict(settlement, next=encoded_state(settlement["next"]))
    return encode(value)


def state_hash(state):
    return hash_of("murmur v1 state", encode(encoded_state(state)))


# A log


class Verifier:
    def __init__(self, answers):
        self.answers = answers
        self.counts = Counter()
        self.slots = defaultdict(list)
        self.seen = set()
        self.named = {}
        self.blobs = {}
        self.convicted = {}
        self.head = None
        self.links = {}
        self.states = {}
        self.rounds = []

    def read(self, data):
        for number, before, body in frames(data):
            what = f"record {number}"
            record = decode(body, what)
            need(isinstance(record, dict) and len(record) == 1, f"{what}: not a record")
            (kind, value), = record.items()
            need((number == 0) == (kind == "header"), f"{what}: a header first, and only then")
            if kind == "header":
                self.header(value, what)
            elif kind == "message":
                self.message(field(value, "envelope", bytes, what), what)
            elif kind == "certificate":
                self.certificate(field(value, "certificate", bytes, what), what)
            elif kind == "body":
                self.body(value, what)
            elif kind == "seal":
                self.seal(value, number, before, what)
            elif kind in ("gap", "checkpoint"):
                raise Wrong(f"{what}: a {kind}: this peer missed rounds; verify the log of one that did not")
            else:
                need(kind in ("opened", "learner", "training"), f"{what}: unknown kind {kind}")
            self.counts[kind] += 1
        need(self.head is not None, "no certificate in the log")

    def header(self, value, what):
        manifest = field(value, "manifest", bytes, what)
        self.swarm = hash_of("murmur v1 swarm", u32(PROTOCOL), manifest)
        need(bytes_of(value, "swarm", 32, what) == self.swarm, f"{what}: not the id of its manifest")
        self.manifest = decode(manifest, what)
        self.owner = bytes_of(value, "peer", 32, what)

    def seal(self, value, number, before, what):
        """The owner's signature on everything before."""
        records, marks = field(value, "records", int, what), field(value, "marks", bytes, what)
        head, closing = bytes_of(value, "head", 32, what), field(value, "closing", bool, what)
        need((records, head) == (number, before), f"{what}: a seal of other records")
        signed = hash_of("murmur v1 log seal", self.swarm, u64(records), head, marks, bytes([closing]))
        signature = bytes_of(value, "signature", 64, what)
        need(signed_by(self.owner, b"murmur v1 log seal", signed, signature), f"{what}: signature")

    def body(self, value, what):
        """Completions that a reveal before named."""
        data, blob = field(value, "bytes", bytes, what), field(value, "blob", dict, what)
        name = bytes_of(blob, "hash", 32, what)
        need(name in self.named, f"{what}: a body that no reveal names")
        need(blob["len"] == len(data) and blob_hash(data) == name, f"{what}: not the body of {self.named[name]}")
        self.blobs[name] = decode(data, what)

    def message(self, data, what):
        message = Message(data, self.swarm, what)
        if message.id in self.seen:
            return
        self.seen.add(message.id)
        if message.kind == "proof":
            peer = offender(message.body, self.swarm, message.what)
            self.convicted.setdefault(peer, message)
            return
        slot = message.slot()
        need(slot is not None, f"{message.what}: has no place in a log")
        admit(message, self.manifest)
        if message.kind == "reveal" and message.body.get("body") is not None:
            self.named[message.body["body"]["blob"]["hash"]] = message.what
        self.slots[slot].append(message)

    def certificate(self, data, what):
        statement = field(decode(data, what), "statement", bytes, what)
        if hash_of("murmur v1 statement", statement) in self.links:
            return  # taken again after a restart
        parent = self.links.get(bytes_of(decode(statement, what), "parent", 32, what))
        link = Link(data, self.manifest, self.swarm, parent, what)
        if parent is None:
            self.first(link)
        else:
            self.settle(link)
        for peer in set(link.offenders) - set(parent.offenders if parent else ()):
            signed = self.owner in link.signers and peer not in self.convicted
            need(not signed, f"{link.what}: convicts {peer.hex()[:8]}, signed by the owner without a proof in the log")
            self.counts["convictions without a proof in the log"] += peer not in self.convicted
        self.links[link.hash] = link
        self.head = link

    def first(self, link):
        first_generations(link, self.manifest)
        listed = sorted(bytes.fromhex(key) for key in self.manifest["genesis"]["peers"])
        state = self.states[link.hash] = founded_by(listed or link.roster)
        need(link.statement["state"] == state_hash(state), f"{link.what}: state")
        need(not any(link.sets.values()), f"{link.what}: includes messages of no round")

    def settle(self, link):
        answers = self.answers.get(link.parent.hash.hex())
        need(answers is not None, f"{link.what}: no reference answers for the round that it ends")
        round_ = self.includes(link, answers)
        round_.check_reveals()
        settlement = round_.settle(self.states[link.parent.hash])
        named = link.statement["settlement"]
        need(hash_of("murmur v1 settlement", encoded_settlement(settlement)) == named, f"{link.what}: settlement")
        need(state_hash(settlement["next"]) == link.statement["state"], f"{link.what}: state")
        self.states[link.hash] = settlement["next"]
        self.rounds.append((link, settlement))
        self.counts["signatures on statements"] += len(link.signers)

    def includes(self, link, answers):
        """The round with the messages that the statement's hash is over; where a slot was filled twice, either."""
        of_round = {slot: said for slot, said in self.slots.items() if slot[1] == link.parent.hash}
        total = 1
        for said in of_round.values():
            total *= len(said)
        need(total <= COMBINATIONS_MAX, f"{link.what}: too many messages for one slot")
        for choice in itertools.product(*of_round.values()):
            round_ = Round(link, dict(zip(of_round, choice)), self.blobs, self.manifest, self.swarm, answers)
            if round_.items() == link.statement["items"]:
                return round_
        raise Wrong(f"{link.what}: not the messages of the log")

    def outcome(self):
        def of_round(link, settlement):
            rewards = {
                peer: sum(sum(prompt["rewards"].get(peer, [])) for prompt in settlement["prompts"])
                for peer in link.parent.roster
            }
            return {
                "round": link.parent.round,
                "view": link.view,
                "statement": link.hash.hex(),
                "rewards": {peer.hex(): reward for peer, reward in rewards.items()},
                "weights": {peer.hex(): weight for peer, weight in settlement["weights"].items()},
            }

        offenders = [peer.hex() for peer in self.head.offenders]
        return {"rounds": [of_round(*of) for of in self.rounds], "offenders": offenders}


def verify(log, answers, outcome=None):
    """Checks a log; raises Wrong at the first thing that does not hold."""
    verifier = Verifier(answers)
    verifier.read(log)
    if outcome is not None:
        need(verifier.outcome() == outcome, "the outcome is not the recorded one")
    return verifier


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log")
    parser.add_argument("answers")
    parser.add_argument("--outcome", help="JSON of the outcome to expect")
    args = parser.parse_args()
    with open(args.log, "rb") as log, open(args.answers) as answers:
        log, answers = log.read(), json.load(answers)
    outcome = None
    if args.outcome:
        with open(args.outcome) as file:
            outcome = json.load(file)
    try:
        verifier = verify(log, answers, outcome)
    except Wrong as wrong:
        print(f"does not hold: {wrong}", file=sys.stderr)
        return 1
    counts = verifier.counts
    print(
        f"{counts['message']} messages, {counts['body']} bodies, {counts['certificate']} certificates with "
        f"{counts['signatures on statements']} signatures, {len(verifier.rounds)} rounds settled to the same hashes, "
        f"{len(verifier.head.offenders)} offenders"
    )
    unproven = counts["convictions without a proof in the log"]
    if unproven:
        print(f"{unproven} of them on the word of a quorum: the log does not have the proof")
    return 0


if __name__ == "__main__":
    sys.exit(main())
