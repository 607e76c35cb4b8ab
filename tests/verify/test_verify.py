"""The verifier accepts the recorded run, and no change of it: not a flipped byte, nor a record that its author (whose
key a test knows) or a quorum signed again.

    python -m unittest discover tests/verify
"""

import json
import pathlib
import random
import unittest

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import verify as v

HERE = pathlib.Path(__file__).parent / "recorded"
LOG = (HERE / "log").read_bytes()
ANSWERS = json.loads((HERE / "answers.json").read_text())
OUTCOME = json.loads((HERE / "outcome.json").read_text())
FIELDS = {"message": "envelope", "certificate": "certificate", "header": "manifest", "body": "bytes"}
KEYS = {key.public_key().public_bytes_raw(): key for key in (Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in range(1, 6))}


def records():
    return [v.decode(body, "") for _, _, body in v.frames(LOG)]


def framed(records):
    """A log of these records, sealed by its owner where it was: what the seals tell is no part of most tests."""
    data, chain = b"", v.ZERO
    owner, swarm = records[0].get("header", {}).get("peer"), records[0].get("header", {}).get("swarm")
    for number, record in enumerate(records):
        if "seal" in record and owner in KEYS:
            seal = dict(record["seal"], records=number, head=chain)
            signed = v.hash_of("murmur v1 log seal", swarm, v.u64(number), chain, seal["marks"], bytes([seal["closing"]]))
            seal["signature"] = sign(owner, b"murmur v1 log seal", signed)
            record = {"seal": seal}
        body = v.encode(record)
        chain = v.hash_of("murmur v1 log", chain, body)
        length = len(body)
        data += length.to_bytes(4, "little") + (length ^ 0xFFFFFFFF).to_bytes(4, "little") + body + chain[:8]
    return data


def sign(peer, domain, data):
    return KEYS[peer].sign(bytes([len(domain)]) + domain + data)


def kind_of(record):
    (kind, value), = record.items()
    if kind != "message":
        return kind
    return v.decode(v.decode(value["envelope"], "")["payload"], "")["kind"]


def resealed(record, change):
    """The message with another payload (and body), signed by its author again."""
    payload = v.decode(v.decode(record["message"]["envelope"], "")["payload"], "")
    body = v.decode(payload["body"], "")
    change(payload, body)
    payload["body"] = v.encode(body)
    data = v.encode(payload)
    envelope = {"payload": data, "signature": sign(payload["sender"], b"murmur v1 envelope", data)}
    return {"message": {"late": False, "envelope": v.encode(envelope)}}


def recertified(record, swarm, change):
    """The certificate of another statement, signed by the same peers again."""
    certificate = v.decode(record["certificate"]["certificate"], "")
    statement = v.decode(certificate["statement"], "")
    change(statement)
    certificate["statement"] = v.encode(statement)
    signed = swarm + v.hash_of("murmur v1 statement", certificate["statement"])
    for signature in certificate["signatures"]:
        signature["signature"] = sign(signature["peer"], b"murmur v1 statement", signed)
    return {"certificate": {"certificate": v.encode(certificate)}}


def bumped(value):
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:] if value else b"\1"
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, list):
        return value[:-1] if value else [b""]
    raise TypeError(value)


class Recorded(unittest.TestCase):
    def assert_found(self, log, what, answers=ANSWERS):
        with self.assertRaises(v.Wrong, msg=what):
            v.verify(log, answers)

    def test_it_holds(self):
        verifier = v.verify(LOG, ANSWERS, OUTCOME)
        self.assertEqual(framed(records()), LOG, "the canonical encoding")
        self.assertEqual(len(verifier.head.offenders), 1)
        self.assertEqual(verifier.counts["convictions without a proof in the log"], 0)
        self.assertIsNotNone(verifier.head.makes_final)

    def test_any_flipped_byte_is_found(self):
        chance = random.Random(1)
        for at in [0, len(LOG) - 1, *chance.sample(range(len(LOG)), 100)]:
            damaged = bytearray(LOG)
            damaged[at] ^= 1 << chance.randrange(8)
            self.assert_found(bytes(damaged), f"byte {at}")

    def test_a_flipped_byte_under_a_good_checksum_is_found(self):
        chance, all_records = random.Random(2), records()
        for kind in sorted({kind_of(record) for record in all_records if next(iter(record)) in FIELDS}):
            places = [i for i, record in enumerate(all_records) if kind_of(record) == kind]
            for place in chance.sample(places, min(3, len(places))):
                for _ in range(10):
                    changed = [dict(record) for record in all_records]
                    (outer, value), = changed[place].items()
                    key = FIELDS[outer]
                    data = bytearray(value[key])
                    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
                    changed[place] = {outer: dict(value, **{key: bytes(data)})}
                    self.assert_found(framed(changed), f"{kind} at {place}")

    def test_a_field_that_its_author_signed_again_is_found(self):
        """Not the order number, nor what is only for people, nor anything of the equivocator's own round."""
        all_records = records()
        changes = {
            "commit": ["commitment"],
            "reveal": ["prompt", "nonce", "policy", "numerics", "completions", "proof"],
            "critique": ["prompts", "texts"],
            "ballot": ["prompts"],
            "proof": ["first", "second"],
        }
        for kind, fields in changes.items():
            place = next(i for i, record in enumerate(all_records) if kind_of(record) == kind)
            for name in fields:
                def change(_, body):
                    body[name] = body["second" if name == "first" else "first"] if kind == "proof" else bumped(body[name])

                changed = list(all_records)
                changed[place] = resealed(all_records[place], change)
                self.assert_found(framed(changed), f"{kind}.{name}")
            for name in ("version", "swarm", "round", "start", "sequence"):
                if kind == "proof" and name in ("round", "start", "sequence"):
                    continue

                def change(payload, _):
                    payload[name] = bumped(payload[name])

                changed = list(all_records)
                changed[place] = resealed(all_records[place], change)
                self.assert_found(framed(changed), f"{kind} payload.{name}")

    def test_a_statement_that_its_signers_signed_again_is_found(self):
        all_records = records()
        swarm = all_records[0]["header"]["swarm"]
        places = [i for i, record in enumerate(all_records) if kind_of(record) == "certificate"]
        # The newest: nothing builds on it, so only its own content can tell.
        for place in (places[0], places[4], places[-1]):
            names = v.decode(v.decode(all_records[place]["certificate"]["certificate"], "")["statement"], "")
            for name in names:
                if name in ("view", "roster") and place == places[-1]:
                    continue  # true of another course of events; what quorums are trusted for

                def change(statement):
                    statement[name] = bumped(statement[name])

                changed = list(all_records)
                changed[place] = recertified(all_records[place], swarm, change)
                self.assert_found(framed(changed), f"certificate {place}: {name}")

    def test_a_missing_record_is_found(self):
        all_records = records()
        included = ("header", "commit", "reveal", "critique", "ballot", "body", "proof", "certificate")
        for kind in included:
            places = [i for i, record in enumerate(all_records) if kind_of(record) == kind]
            # The first bodies are of the round whose equivocator no certificate includes.
            place = places[-1 if kind == "body" else 0]
            self.assert_found(framed(all_records[:place] + all_records[place + 1 :]), kind)

    def test_a_seal_of_other_records_is_found(self):
        body = {number: body for number, _, body in v.frames(LOG)}
        place = max(number for number in body if "seal" in v.decode(body[number], ""))
        seal = v.decode(body[place], "")["seal"]
        for name in seal:
            changed = v.encode({"seal": dict(seal, **{name: bumped(seal[name])})})
            data, chain = b"", v.ZERO
            for number in range(place + 1):
                of = changed if number == place else body[number]
                chain = v.hash_of("murmur v1 log", chain, of)
                data += len(of).to_bytes(4, "little") + (len(of) ^ 0xFFFFFFFF).to_bytes(4, "little") + of + chain[:8]
            self.assert_found(data, f"seal.{name}")

    def test_another_body_is_found(self):
        all_records = records()
        place = next(i for i, record in enumerate(all_records) if "body" in record)
        body = all_records[place]["body"]
        texts = v.decode(body["bytes"], "")
        data = v.encode(texts[:-1])
        for changed in (dict(body, bytes=data), {"blob": {"hash": v.blob_hash(data), "len": len(data)}, "bytes": data}):
            self.assert_found(framed(all_records[:place] + [{"body": changed}] + all_records[place + 1 :]), "body")

    def test_too_few_signatures_are_found(self):
        all_records = records()
        place = [i for i, record in enumerate(all_records) if kind_of(record) == "certificate"][3]
        certificate = v.decode(all_records[place]["certificate"]["certificate"], "")
        certificate["signatures"] = certificate["signatures"][:3]
        all_records[place] = {"certificate": {"certificate": v.encode(certificate)}}
        self.assert_found(framed(all_records), "three of five")

    def test_another_reference_answer_is_found(self):
        for start in list(ANSWERS)[:-1]:
            for index in range(4):
                answers = json.loads(json.dumps(ANSWERS))
                answers[start][index]["answer"] = "31337"
                self.assert_found(LOG, f"{start} {index}", answers)


if __name__ == "__main__":
    unittest.main()
