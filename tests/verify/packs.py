"""Packs that a swarm takes in, from "Votes on packs" of swarm/README.md."""

OPEN_MAX, ACCEPTED_MAX, ROUNDS_MAX, WEIGHT_MAX, VOTES_MAX = 4, 16, 32, 1_000_000, 4


def none():
    return {"open": {}, "accepted": {}}


def copied(packs):
    opened = {pack: dict(of, votes=dict(of["votes"])) for pack, of in packs["open"].items()}
    return {"open": opened, "accepted": dict(packs["accepted"])}


def encoded(packs):
    """With every table in the order of its keys."""
    opened = {
        pack: dict(of, votes={peer: of["votes"][peer] for peer in sorted(of["votes"])})
        for pack, of in sorted(packs["open"].items())
    }
    return {"open": opened, "accepted": dict(sorted(packs["accepted"].items()))}


def hear(packs, peer, vote):
    """Takes a vote; whether it is a proposal."""
    pack, weight, accept = vote["pack"], vote["weight"], vote["accept"]
    if pack in packs["open"]:
        of = packs["open"][pack]
        of["votes"][peer] = accept and weight == of["weight"]
        return False
    own = any(of["proposer"] == peer for of in packs["open"].values())
    if not accept or pack in packs["accepted"] or len(packs["open"]) >= OPEN_MAX or own:
        return False
    packs["open"][pack] = {"proposer": peer, "weight": weight, "rounds": 0, "votes": {peer: True}}
    return True


def count(packs, next_round, roster, quorum, said):
    """Counts the votes of included ballots (by peer); `quorum` is None where nothing can be decided. What came of it."""
    outcomes = {}
    for peer in sorted(said):
        for vote in said[peer]:
            if hear(packs, peer, vote):
                outcomes[vote["pack"]] = "proposed"
    if quorum is None:
        return dict(sorted(outcomes.items()))
    for pack, of in sorted(packs["open"].items()):
        of["votes"] = {peer: word for peer, word in of["votes"].items() if peer in roster}
        of["rounds"] += 1
        yes = sum(of["votes"].values())
        full = len(packs["accepted"]) >= ACCEPTED_MAX
        if yes >= quorum and not full:
            packs["accepted"][pack] = {"weight": of["weight"], "round": next_round}
            outcomes[pack] = "accepted"
        elif full or len(of["votes"]) - yes + quorum > len(roster):
            outcomes[pack] = "refused"
        elif of["rounds"] >= ROUNDS_MAX:
            outcomes[pack] = "expired"
        else:
            continue
        del packs["open"][pack]
    return dict(sorted(outcomes.items()))
