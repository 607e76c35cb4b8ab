"""Searches at random for two final certificates that contradict each other (the rules: swarm/src/chain.rs).

Usage: python3 finality.py [RUNS]        (standard library only; 40,000 runs take half a minute on two cores)

Every run: nine peers of which the first four found the swarm, one of the founders dishonest (it signs everything), messages and
certificates lost at random, sides that do not hear each other, proposers that contradict themselves, rosters that change at
random (fewer than a third of each dishonest). Each line switches one rule off, so that the search can be seen to find something.
"""
import random
import sys
from multiprocessing import Pool

PEERS, FOUNDERS, VIEWS, PARTS = 9, 4, 12, 8
RULES = {
    "as specified": {},
    "the roster signs at once, alone": {"generations": 1, "at_once": True},
    "a final roster signs alone": {"generations": 1},
    "without S2": {"s2": False},
    "final across gaps": {"consecutive": False},
}


def quorum(n):
    return 2 * n // 3 + 1


class Chain:
    """Certificates by number: view, parent, roster."""

    def __init__(self, generations=3, at_once=False, s2=True, consecutive=True):
        self.generations, self.at_once, self.s2, self.consecutive = generations, at_once, s2, consecutive
        self.certificates = {0: (0, None, frozenset(range(FOUNDERS)))}

    def view(self, c):
        return self.certificates[c][0]

    def ancestors(self, c):
        while c is not None:
            yield c
            c = self.certificates[c][1]

    def makes_final(self, c):
        view, parent, _ = self.certificates[c]
        return parent is not None and (view == self.view(parent) + 1 or not self.consecutive)

    def electorate(self, c):
        if self.at_once:
            return self.certificates[c][2]
        makers = (self.certificates[a][1] for a in self.ancestors(c) if self.makes_final(a))
        return self.certificates[next(makers, 0)][2]

    def needed(self, parent):
        generations = [a for _, a in zip(range(self.generations), self.ancestors(parent))]
        return {self.electorate(a) for a in generations}

    def contradicts(self):
        final = {self.certificates[c][1] for c in self.certificates if self.makes_final(c)}
        above = {c: set(self.ancestors(c)) for c in final}
        return any(a not in above[b] and b not in above[a] for a in final for b in final)


def some_roster(rng, base, dishonest):
    for _ in range(20):
        draw = rng.random()
        if draw < 0.5:
            roster = set(base)
        elif draw < 0.8:
            roster = set(rng.sample(range(PEERS), rng.randint(4, PEERS)))
        else:
            roster = set(base) ^ {rng.randrange(PEERS)}
        if len(roster) >= 4 and len(roster & dishonest) <= (len(roster) - 1) // 3:
            return frozenset(roster)
    return base


def run(seed, rules):
    rng, chain = random.Random(seed), Chain(**rules)
    dishonest = {rng.randrange(FOUNDERS)}
    known, signed, side = [{0} for _ in range(PEERS)], [0] * PEERS, [0] * PEERS
    newest = lambda peer: max(map(chain.view, known[peer]))
    for view in range(1, VIEWS):
        if rng.random() < 0.3:
            side = [rng.randrange(2) for _ in range(PEERS)]
        made = []
        for _ in range(1 + (rng.random() < 0.4) * rng.randint(1, 2)):
            if rng.random() < 0.4:
                parent = rng.choice(list(chain.certificates))
            else:
                proposer = rng.randrange(PEERS)
                parent = rng.choice([c for c in known[proposer] if chain.view(c) == newest(proposer)])
            if chain.view(parent) >= view:
                continue
            roster, heard = some_roster(rng, chain.certificates[parent][2], dishonest), rng.randrange(3)
            signers = set(dishonest)
            for peer in rng.sample(range(PEERS), PEERS):
                if peer in dishonest or heard < 2 and side[peer] != heard or rng.random() < 0.15:
                    continue
                known[peer].update(chain.ancestors(parent))  # a proposal carries its parent
                if signed[peer] < view and not (chain.s2 and chain.view(parent) < newest(peer)):
                    signed[peer] = view
                    signers.add(peer)
            if all(len(signers & electorate) >= quorum(len(electorate)) for electorate in chain.needed(parent)):
                made.append((len(chain.certificates), heard))
                chain.certificates[len(chain.certificates)] = (view, parent, roster)
        for certificate, heard in made:
            shown = rng.choice([0, 0.2, 0.6, 1])
            for peer in set(range(PEERS)) - dishonest:
                if (heard == 2 or side[peer] == heard or rng.random() < 0.05) and rng.random() < shown:
                    known[peer].update(chain.ancestors(certificate))
    return chain.contradicts()


def count(job):
    name, first, last = job
    return name, sum(run(seed, RULES[name]) for seed in range(first, last))


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 40_000
    jobs = [(name, runs * i // PARTS, runs * (i + 1) // PARTS) for name in RULES for i in range(PARTS)]
    found = dict.fromkeys(RULES, 0)
    with Pool() as pool:
        for name, contradictions in pool.imap_unordered(count, jobs):
            found[name] += contradictions
    for name, contradictions in found.items():
        print(f"{name:34} {contradictions:6} contradictions in {runs} runs")
    sys.exit(1 if found["as specified"] else 0)


if __name__ == "__main__":
    main()
