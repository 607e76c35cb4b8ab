"""Audits, from "Closing audits" of swarm/README.md: who is drawn, and what their findings come to."""

import blake3

AUDITORS, JURY, CLEAN_PASSES, SOFT_FAILURES, MARKS_MAX, DUTIES_MAX, PLANT_COST = 2, 5, 3, 3, 2, 8, 1000
DEFAULT_RULES = {"share_permille": 250, "prompts": 2, "bytes_max": 8 << 20, "plant_permille": 50, "required": False}


def none():
    return {"offers": {}, "disputes": {}, "records": {}}


def new_record():
    zeros = {key: 0 for key in ("passed", "failed", "withheld", "suspended")}
    return dict(zeros, plant_permille=PLANT_COST, right=0, marks=0)


def is_suspended(audits, peer):
    return audits["records"].get(peer, new_record())["suspended"] > 0


def encoded(audits):
    """With every table in the order of its keys."""
    disputes = {
        peer: dict(case, findings={by: case["findings"][by] for by in sorted(case["findings"])})
        for peer, case in sorted(audits["disputes"].items())
    }
    order = {key: dict(sorted(audits[key].items())) for key in ("offers", "records")}
    return {"offers": order["offers"], "disputes": disputes, "records": order["records"]}


def lot(beacon, *peers):
    return blake3.blake3(b"murmur/audit/1\0" + beacon + b"".join(peers)).digest()


def duties(rules, audits, roster, beacon):
    """The auditors drawn, by whom they are to look at; disputes first."""
    records = audits["records"]
    able = [p for p in roster if p in audits["offers"] and records.get(p, new_record())["marks"] < MARKS_MAX]
    load, drawn = {}, {}

    def draw(peer, besides, count):
        free = [p for p in able if p != peer and p not in besides and load.get(p, 0) < DUTIES_MAX]
        chosen = sorted(free, key=lambda p: (lot(beacon, peer, p), p))[:count]
        for auditor in chosen:
            load[auditor] = load.get(auditor, 0) + 1
        return set(chosen)

    for peer, case in sorted(audits["disputes"].items()):
        drawn[peer] = draw(peer, case["findings"], max(0, AUDITORS + JURY - len(case["findings"])))
    for peer in sorted(audits["offers"]):
        record = records.get(peer)
        known = record is not None and record["suspended"] == 0 and record["passed"] >= CLEAN_PASSES
        chance = int.from_bytes(lot(beacon, peer)[:8], "little") % 1000 < rules["share_permille"]
        if peer in roster and peer not in drawn and rules["share_permille"] > 0 and (chance or not known):
            auditors = draw(peer, {}, AUDITORS)
            if len(auditors) == AUDITORS:
                drawn[peer] = auditors
    return dict(sorted(drawn.items()))


def first_outcome(passes, fails, withheld, planted, voted):
    if passes == 0 and fails >= AUDITORS and planted:
        return "planted"
    if passes == 0 and fails >= AUDITORS and voted:
        return "failed"
    if passes >= AUDITORS and fails == 0 and not planted:
        return "passed"
    if passes == fails == 0:
        return "withheld" if withheld == AUDITORS else "unclear"
    return "unclear" if fails == 0 and not planted else "disputed"


def last_outcome(passes, fails, planted, voted):
    if fails > passes and fails >= AUDITORS:
        return "planted" if planted else "failed" if voted else "disputed"
    if passes > fails and passes >= AUDITORS:
        return "unplanted" if planted else "passed"
    return "unclear"


def close(rules, audits, rounds, roster, beacon, voted, said):
    """Closes a round's audits. Changes `audits`, returns the reports; `said` has offers, findings and opened seals."""
    drawn = duties(rules, audits, sorted(roster), beacon)
    offers, disputes, records = audits["offers"], audits["disputes"], audits["records"]
    audits["offers"], audits["disputes"] = said["offers"], {}
    reports = {}
    for peer, auditors in drawn.items():
        old = disputes.get(peer)
        case = old or {"offer": offers[peer], "round": rounds, "findings": {}, "planted": False}
        findings = dict(case["findings"])
        for auditor in auditors:
            if peer in said["findings"].get(auditor, {}):
                findings[auditor] = said["findings"][auditor][peer]
        record = records.setdefault(peer, new_record())
        planted = case["planted"]
        if not planted and case["offer"]["seal"] in said["opened"].get(peer, ()):
            planted = record["plant_permille"] >= PLANT_COST
            record["plant_permille"] -= PLANT_COST if planted else 0
        count = {finding: list(findings.values()).count(finding) for finding in ("pass", "fail", "withheld")}
        if old:
            outcome = last_outcome(count["pass"], count["fail"], planted, peer in voted)
        else:
            outcome = first_outcome(count["pass"], count["fail"], count["withheld"], planted, peer in voted)
            record["plant_permille"] = min(record["plant_permille"] + rules["plant_permille"], 3 * PLANT_COST)
        if outcome == "disputed":
            audits["disputes"][peer] = dict(case, findings=findings, planted=planted)
        note_peer(record, outcome)
        marked = note_auditors(records, peer, outcome, findings)
        reports[peer] = {
            "outcome": outcome,
            "findings": {by: findings[by] for by in sorted(findings)},
            "marked": sorted(marked),
        }
    return reports


def note_peer(record, outcome):
    if outcome == "passed":
        record["passed"] += 1
        record["withheld"] = 0
        record["suspended"] = max(0, record["suspended"] - 1)
    record["withheld"] += outcome == "withheld"
    if outcome == "failed" or record["withheld"] >= SOFT_FAILURES:
        record["failed"] += 1
        record["suspended"], record["withheld"] = CLEAN_PASSES, 0


def note_auditors(records, peer, outcome, findings):
    right = {"passed": "pass", "unplanted": "pass", "failed": "fail", "planted": "fail"}.get(outcome)
    if right is None:
        return set()
    wrong = "fail" if right == "pass" else "pass"
    for auditor in (by for by, finding in findings.items() if finding == right):
        records.setdefault(auditor, new_record())["right"] += 1
    marked = {by for by, finding in findings.items() if finding == wrong}
    marked |= {peer} if outcome == "unplanted" else set()
    for auditor in marked:
        records.setdefault(auditor, new_record())["marks"] += 1
    return marked
