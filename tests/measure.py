"""The measured tables of the README: runs `murmur demo --json` over seeds and prints Markdown.

Usage: python3 tests/measure.py [--binary target/release/murmur] [--first 101] [--seeds 10] [--arm-seeds 5] [--only-ring]
Needs only Python and a release build. Intervals are 95 % t-intervals of the paired difference to the
swarm arm with the same seed. Runs one demo at a time; a few seconds each.
"""
import argparse, json, os, platform, statistics, subprocess, tempfile

T95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    return json.loads(done.stdout[done.stdout.index("{"):])


def demo(binary, seed, *options, look=lambda run, result: None):
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "demo", "--json", "--plain", "--seed", str(seed), "--out", folder + "/run", *options]
        result = run(*command)
        result["looked"] = look(folder + "/run", result)
        return result


LOOKED_AT = [1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30]


def weights(binary, folder):
    """Each peer's vote weight after some rounds, by an honest peer's log; and who is honest."""
    with open(folder + "/report.json") as file:
        # Nobody measures what liars learnt.
        honest = [name for name, peer in json.load(file)["peers"].items() if peer["after"]]
    after = {}
    for number in LOOKED_AT:
        credit = run(binary, "credit", folder, "--peer", honest[0], "--to-round", str(number), "--json")
        after[number] = {peer["name"]: peer["vote_weight"] for peer in credit["peers"]}
    return honest, after


def liar_ring(binary, seeds, lies=(None, "collude", "camouflage", "critique")):
    """Two liars in seven: what they do to the others, and what becomes of their part of the vote."""
    print("\n| two liars in seven | after | worst honest peer | vote right | their part of the vote after round 1, 5, 10, 30 | "
          "below half of their heads | below a tenth of them |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for lie in lies:
        options = ["--peers", "7", *(["--liars", "2", "--lie", lie] if lie else [])]
        done, parts = [], []
        for seed in seeds:
            look = (lambda folder, result: weights(binary, folder)) if lie else (lambda *_: None)
            done.append(demo(binary, seed, *options, look=look))
            if lie:
                honest, after = done[-1]["looked"]
                part = lambda now: sum(w for name, w in now.items() if name not in honest) / max(sum(now.values()), 1e-9)
                parts.append({number: part(now) for number, now in after.items()})
        row = [spread([d["accuracy"]["after"] for d in done]), spread([d["accuracy"]["after_min"] for d in done]),
               spread([d["vote_accuracy"] for d in done])]
        if lie:
            row.append(", ".join(f"{statistics.median(part[n] for part in parts):.3f}" for n in (1, 5, 10, 30)))
            for share in (1 / 7, 2 / 70):
                first = [next((n for n in part if all(v < share for m, v in part.items() if m >= n)), None)
                         for part in parts]
                row.append("never" if None in first else f"round {statistics.median(first):.0f} ({min(first)}–{max(first)})")
        else:
            row += ["–"] * 3
        print(f"| {'`' + lie + '`' if lie else 'none lies'} | " + " | ".join(row) + " |", flush=True)


def spread(values):
    return f"{statistics.median(values):.3f} ({min(values):.3f}–{max(values):.3f})"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default="target/release/murmur")
    parser.add_argument("--first", type=int, default=101)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--arm-seeds", type=int, default=5)
    parser.add_argument("--only-ring", action="store_true", help="only the table of two liars in seven")
    args = parser.parse_args()
    seeds = range(args.first, args.first + args.seeds)
    print(f"Machine: {platform.machine()}, {os.cpu_count()} cores; seeds {seeds[0]} to {seeds[-1]}", flush=True)
    if args.only_ring:
        return liar_ring(args.binary, list(seeds)[: args.arm_seeds])

    swarm = {seed: demo(args.binary, seed) for seed in seeds}
    rows = list(swarm.values())
    column = lambda *path: [__import__("functools").reduce(lambda x, k: x[k], path, row) for row in rows]
    for name, path in [
        ("before", ("accuracy", "before")), ("after", ("accuracy", "after")), ("worst peer after", ("accuracy", "after_min")),
        ("base forced to reason", ("controls", "forced_trace")), ("base's majority of 16", ("controls", "majority_16")),
        ("vote accuracy", ("vote_accuracy",)), ("undecided", ("undecided",)), ("overhead ms a round", ("overhead_ms_per_round",)),
        ("wall seconds", ("wall_s",)), ("processor seconds", ("cpu_s",)), ("MiB", ("rss_mib",)),
    ]:
        print(f"| {name} | {spread(column(*path))} |", flush=True)
    families = rows[0]["accuracy"]["per_family"]
    for family in families:
        pairs = [row["accuracy"]["per_family"][family] for row in rows]
        print(f"| {family} | {spread([p[0] for p in pairs])} → {spread([p[1] for p in pairs])} |", flush=True)

    print("\n| arm | after | difference to swarm |\n|---|---|---|", flush=True)
    chosen = list(seeds)[: args.arm_seeds]
    for arm in ["own-majority", "gold", "trace", "random", "format"]:
        after = [demo(args.binary, seed, "--arm", arm)["accuracy"]["after"] for seed in chosen]
        difference = [a - swarm[seed]["accuracy"]["after"] for a, seed in zip(after, chosen)]
        half = T95[len(chosen) - 1] * statistics.stdev(difference) / len(chosen) ** 0.5
        print(f"| `{arm}` | {spread(after)} | {statistics.mean(difference):+.3f} ± {half:.3f} |", flush=True)

    print("\n| one liar in four | after | worst peer |\n|---|---|---|", flush=True)
    for lie in ["collude", "camouflage", "critique"]:
        done = [demo(args.binary, seed, "--liars", "1", "--lie", lie)["accuracy"] for seed in seeds]
        print(f"| `{lie}` | {spread([d['after'] for d in done])} | {spread([d['after_min'] for d in done])} |", flush=True)
    liar_ring(args.binary, chosen)


if __name__ == "__main__":
    main()
