"""The measured tables of the README: runs `murmur demo --json` over seeds and prints Markdown.

Usage: python3 tests/measure.py [--binary target/release/murmur] [--first 101] [--seeds 10] [--arm-seeds 5]
Needs only Python and a release build. Intervals are 95 % t-intervals of the paired difference to the
swarm arm with the same seed. Runs one demo at a time; about 11 s each on 4 cores.
"""
import argparse, json, os, platform, statistics, subprocess, tempfile

T95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}


def demo(binary, seed, *options):
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "demo", "--json", "--plain", "--seed", str(seed), "--out", folder + "/run", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
        return json.loads(done.stdout.strip().splitlines()[-1])


def spread(values):
    return f"{statistics.median(values):.3f} ({min(values):.3f}–{max(values):.3f})"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default="target/release/murmur")
    parser.add_argument("--first", type=int, default=101)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--arm-seeds", type=int, default=5)
    args = parser.parse_args()
    seeds = range(args.first, args.first + args.seeds)
    print(f"Machine: {platform.machine()}, {os.cpu_count()} cores; seeds {seeds[0]} to {seeds[-1]}", flush=True)

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


if __name__ == "__main__":
    main()
