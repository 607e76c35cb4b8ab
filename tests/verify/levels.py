"""How families move from level to level, from "Levels" of swarm/README.md."""


def success(votes, weights, pending, settled):
    """Permille of the ballots on the reference answer, or of those that agreed."""
    if votes["gold"] is None:
        return settled["consensus"]["share_permille"] if settled["consensus"] else 0
    masses = sorted(mass for peer, mass in pending["mass_permille"].items() if weights.get(peer, 0) > 0)
    return masses[(len(masses) - 1) // 2] if masses else 0


def advance(rules, courses, prompts):
    """Counts (stage, success) of each prompt, in order; the rank of every family that moved."""
    ranks = {}
    for (family, rank, levels), permille in prompts:
        course = courses.setdefault(family, {"rank": 0, "prompts": 0, "success_permille": 0})
        ranks[family] = levels
        if rank == course["rank"]:
            course["prompts"] += 1
            course["success_permille"] += permille
    moved = {}
    for family, levels in sorted(ranks.items()):
        course = courses[family]
        if course["prompts"] < rules["prompts"]:
            continue
        mean, rank = course["success_permille"] // course["prompts"], course["rank"]
        if mean >= rules["raise_permille"]:
            rank = min(rank + 1, levels - 1)
        elif mean < rules["lower_permille"]:
            rank = max(rank - 1, 0)
        if rank != course["rank"]:
            moved[family] = rank
        courses[family] = {"rank": rank, "prompts": 0, "success_permille": 0}
    return moved
