"""Tables of `murmur bench` beside PyTorch, TRL and llama.cpp on the same machine.

Usage: python compare.py [--table decode,train] [--models tiny,small] [--threads 1,4] [--out results.json]
Programs take turns, round by round; every turn warms up first. A ratio is the other program's time by murmur's within a
round; tables show the median of all rounds and, in brackets, the least and the most. Every row is stored when it is done
and a second call goes on where the first stopped, so that a row is measured again only when it is removed from the file.
Needs a release build of murmur, and for the other programs (in --python, by default this interpreter):
    pip install torch transformers                            every table
    pip install trl datasets peft                             table step
    pip install llama-cpp-python gguf safetensors numpy       table llama
Models are made in --folder when they are not there. Takes about an hour on 4 cores, most of it for q05 (15 GiB of memory).
"""
import argparse
import glob
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TABLES = ["decode", "group", "train", "memory", "step", "llama"]
MODELS = ["t031", "tiny", "small", "q05"]
BATCHES = {"tiny": [8, 32, 64], "small": [8, 32, 64], "q05": [1, 8]}
TRAINING = {"tiny": (32, 128), "small": (32, 128), "q05": (4, 256)}
# Prompts, completions of each, tokens of a prompt, tokens of a completion, rank of the adapter.
STEPS = {"t031": (24, 8, 14, 22, 0), "small": (8, 8, 32, 64, 0), "q05": (1, 4, 32, 32, 16)}
PROMPT = 32
TURN_LIMIT_S = 1800


def count(threads):
    return f"{threads} thread{'' if threads == 1 else 's'}"


def new_tokens(model):
    return 24 if model == "q05" else 64


class Place:
    """Where programs are and how they are started."""

    def __init__(self, args):
        self.args = args
        self.allocator, self.tuned = allocator(args.allocator)

    def model(self, name):
        folder = os.path.join(self.args.folder, name)
        if not os.path.exists(os.path.join(folder, "model.safetensors")):
            print(f"making {folder}", file=sys.stderr, flush=True)
            os.makedirs(self.args.folder, exist_ok=True)
            command = [self.args.python, os.path.join(HERE, "make_models.py"), self.args.folder, name]
            subprocess.run(command, check=True, stdout=sys.stderr, timeout=TURN_LIMIT_S)
        return folder

    def environment(self, threads, tuned=True):
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads),
                           PYTHONDONTWRITEBYTECODE="1", CUDA_VISIBLE_DEVICES="")
        if tuned:
            environment.update(self.tuned)
        return environment

    def murmur(self, *options):
        done = subprocess.run([self.args.murmur, "bench", *map(str, options), "--json"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, check=True, timeout=TURN_LIMIT_S)
        return json.loads(done.stdout)


def allocator(choice):
    """Name and environment of a tuned allocator for the Python programs; murmur brings its own (mimalloc)."""
    if choice == "none":
        return "the system's", {}
    if choice == "auto":
        folders = ["/usr/lib/*-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib", "/opt/homebrew/lib"]
        names = ["libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libtcmalloc.so.4", "libmimalloc.so.2"]
        found = [path for name in names for folder in folders for path in glob.glob(os.path.join(folder, name))]
        choice = found[0] if found else "glibc"
    if choice == "glibc":
        # Keeps pages instead of giving them back and asking for them again.
        keep = dict(MALLOC_MMAP_THRESHOLD_=str(4 << 30), MALLOC_TRIM_THRESHOLD_=str(16 << 30), MALLOC_TOP_PAD_=str(64 << 20))
        return "glibc with high thresholds", keep
    # As PyTorch's tuning guide sets it for CPUs.
    settings = dict(MALLOC_CONF="oversize_threshold:1,background_thread:true,metadata_thp:auto,dirty_decay_ms:-1,muzzy_decay_ms:-1")
    return os.path.basename(choice), dict(LD_PRELOAD=choice, **(settings if "jemalloc" in choice else {}))


class Server:
    """A program that answers a line of JSON to every line."""

    def __init__(self, place, threads, script, *options, tuned=True):
        command = [place.args.python, os.path.join(HERE, script), *options]
        self.errors = tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
                                        env=place.environment(threads, tuned))
        self.hello = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError(f"{' '.join(self.process.args[1:3])} stopped: {self.errors.read()[-2000:]}")
        return json.loads(line)

    def ask(self, request):
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self.read()

    def turn(self, request, runs):
        """Runs after one that warms up, in the form of murmur's answer."""
        self.ask(request)
        answers = [self.ask(request) for _ in range(runs)]
        each = [answer["wall_s"] for answer in answers]
        return dict(wall_s=statistics.median(each), wall_s_each=each, cpu_s=statistics.median(a["cpu_s"] for a in answers),
                    rss_mib=answers[-1]["rss_mib"], rss_start_mib=self.hello["baseline_mib"])

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()


class Row:
    """Programs that do the same work, and what each needs for it."""

    def __init__(self, key, turns, servers=()):
        self.key, self.turns, self.servers = key, turns, servers

    def measure(self, rounds):
        """Every program's turns, one round after the other; the order turns around each time."""
        measured = {name: [] for name in self.turns}
        try:
            for number in range(rounds):
                for name in list(self.turns)[:: 1 if number % 2 == 0 else -1]:
                    measured[name].append(self.turns[name]())
        finally:
            for server in self.servers:
                server.close()
        return measured


class Lazy:
    """A server that starts when it is first needed."""

    def __init__(self, start):
        self.start, self.server = start, None

    def turn(self, request, runs):
        self.server = self.server or self.start()
        return self.server.turn(request, runs)

    def close(self):
        if self.server:
            self.server.close()


def fresh(start, request, runs):
    """A turn of a server of its own, which gives its memory back afterwards."""
    server = start()
    try:
        return server.turn(request, runs)
    finally:
        server.close()


def murmur_decode(place, folder, threads, runs, batch, prompt, new, weights="f32", group=1):
    return lambda: place.murmur("decode", "--model", folder, "--threads", threads, "--repeat", runs, "--batch", batch,
                                "--prompt", prompt, "--new", new, "--weights", weights, "--group", group)


def decode_rows(place, args, model, threads):
    folder, new = place.model(model), new_tokens(model)
    for batch in BATCHES.get(model, []):
        torch = Lazy(lambda: Server(place, threads, "torch_policy.py", folder))
        turn = lambda kind, torch=torch, batch=batch: lambda: torch.turn(f"{kind} {batch} {PROMPT} {new}", args.runs)
        ours = lambda weights, batch=batch: murmur_decode(place, folder, threads, args.runs, batch, PROMPT, new, weights)
        yield Row(f"{model}, batch {batch}, {count(threads)}",
                  {"murmur f32": ours("f32"), "torch f32": turn("lean"), "murmur bf16": ours("bf16"), "torch bf16": turn("leanbf")},
                  [torch])


def group_rows(place, args, model, threads):
    if model not in ("tiny", "small"):
        return
    folder, new = place.model(model), new_tokens(model)
    for prompt in [32, 256]:
        torch = Lazy(lambda: Server(place, threads, "torch_policy.py", folder))
        ours = lambda group, prompt=prompt: murmur_decode(place, folder, threads, args.runs, 64, prompt, new, group=group)
        theirs = lambda torch=torch, prompt=prompt: torch.turn(f"lean 64 {prompt} {new}", args.runs)
        yield Row(f"{model}, 8 × 8 completions of prompts of {prompt}, {count(threads)}",
                  {"murmur": ours(8), "murmur alone": ours(1), "torch": theirs}, [torch])


def murmur_train(place, folder, threads, runs, batch, length, *options):
    return lambda: place.murmur("train", "--model", folder, "--threads", threads, "--repeat", runs, "--batch", batch,
                                "--length", length, *options)


def train_rows(place, args, model, threads):
    if model not in TRAINING:
        return
    folder, (batch, length) = place.model(model), TRAINING[model]
    runs = 1 if model == "q05" else args.runs
    ours = lambda *options: murmur_train(place, folder, threads, runs, batch, length, *options)
    start = lambda: Server(place, threads, "torch_policy.py", folder)
    torch = Lazy(start)
    if model == "q05":
        # Both programs' weights, gradients and moments at once would be 18 GiB.
        theirs = lambda kind: lambda: fresh(start, f"{kind} {batch} {length}", runs)
    else:
        theirs = lambda kind: lambda: torch.turn(f"{kind} {batch} {length}", runs)
    yield Row(f"{model}, {batch} × {length}, {count(threads)}",
              {"murmur": ours(), "torch": theirs("train"), "murmur checkpointing": ours("--checkpointing"),
               "torch checkpointing": theirs("trainckpt")}, [torch])


def memory_rows(place, args, model, threads):
    if model not in TRAINING:
        return
    folder, (batch, length) = place.model(model), TRAINING[model]
    ours = lambda *options: murmur_train(place, folder, threads, 1, batch, length, *options)
    # A tuned allocator keeps more pages than are in use: the system's shows what the program needs.
    start = lambda: Server(place, threads, "torch_policy.py", folder, tuned=False)
    theirs = lambda kind: lambda: fresh(start, f"{kind} {batch} {length}", 1)
    yield Row(f"{model}, {batch} × {length}, {count(threads)}",
              {"murmur": ours(), "murmur checkpointing": ours("--checkpointing"), "murmur LoRA 16": ours("--lora", 16),
               "torch": theirs("train"), "torch checkpointing": theirs("trainckpt")})


def step_rows(place, args, model, threads):
    if model not in STEPS:
        return
    folder, (prompts, group, prompt, new, lora) = place.model(model), STEPS[model]
    sizes = ["--prompts", prompts, "--group", group, "--prompt", prompt, "--new", new] + (["--lora", lora] if lora else [])

    def theirs():
        command = [place.args.python, os.path.join(HERE, "trl_grpo.py"), "--shape", model, "--steps", args.runs, *sizes]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                              env=place.environment(threads), timeout=TURN_LIMIT_S)
        if done.returncode:
            raise RuntimeError(f"trl_grpo.py stopped: {done.stderr[-2000:]}")
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        return dict(answer, rss_start_mib=answer["baseline_mib"])
    ours = lambda: place.murmur("step", "--model", folder, "--threads", threads, "--repeat", args.runs, *sizes)
    adapter = f", LoRA {lora}" if lora else ""
    yield Row(f"{model}{adapter}, {prompts} × {group} × {new}, {count(threads)}", {"murmur": ours, "TRL": theirs})


def llama_rows(place, args, model, threads):
    if model not in ("small", "q05"):
        return
    folder, new = place.model(model), new_tokens(model)
    for batch in BATCHES[model][:2]:
        servers = {kind: Lazy(lambda kind=kind: Server(place, threads, "llama_decode.py", folder, kind,
                                                       os.path.join(args.folder, f"{model}-{kind}.gguf")))
                   for kind in ("f32", "bf16", "f16")}
        theirs = lambda kind, servers=servers, batch=batch: lambda: servers[kind].turn(f"decode {batch} {PROMPT} {new}", args.runs)
        ours = lambda weights, batch=batch: murmur_decode(place, folder, threads, args.runs, batch, PROMPT, new, weights)
        yield Row(f"{model}, batch {batch}, {count(threads)}",
                  {"murmur f32": ours("f32"), "llama f32": theirs("f32"), "murmur bf16": ours("bf16"),
                   "llama bf16": theirs("bf16"), "llama f16": theirs("f16")}, servers.values())


ROWS = dict(decode=decode_rows, group=group_rows, train=train_rows, memory=memory_rows, step=step_rows, llama=llama_rows)


def measure(place, args, results):
    for table in args.table:
        started = time.monotonic()
        done = results["tables"].setdefault(table, {})
        for model in args.models:
            for threads in args.threads:
                for row in ROWS[table](place, args, model, threads):
                    if row.key in done:
                        continue
                    if time.monotonic() - started > args.budget:
                        print(f"{table}: {row.key}: left out, the time is up", file=sys.stderr, flush=True)
                        continue
                    print(f"{table}: {row.key}", file=sys.stderr, flush=True)
                    load = os.getloadavg()[0]
                    rounds = 1 if table == "memory" else args.rounds
                    try:
                        measured = row.measure(rounds)
                    except (RuntimeError, subprocess.SubprocessError) as error:
                        print(f"{table}: {row.key}: {error}", file=sys.stderr, flush=True)
                        continue
                    done[row.key] = dict(load=load, measured=measured)
                    store(args.out, results)


def store(path, results):
    with open(path + ".tmp", "w") as file:
        json.dump(results, file, indent=1)
    os.replace(path + ".tmp", path)


def seconds(turns):
    value = statistics.median(turn["wall_s"] for turn in turns)
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"


def ratio(ours, theirs):
    each = [b["wall_s"] / a["wall_s"] for a, b in zip(ours, theirs)]
    return f"**{statistics.median(each):.2f}** ({min(each):.2f}–{max(each):.2f})"


def rate(turns):
    return f"{statistics.median(turn['tokens_per_s'] for turn in turns):,.0f}"


def share(turns):
    value = statistics.median(turn["share_of_peak"] for turn in turns)
    return f"{100 * value:.0f} % {turns[0]['peak']}"


def net(turns):
    return statistics.median(turn["rss_mib"] - turn["rss_start_mib"] for turn in turns)


def columns(table, m):
    """Header and cell of every column of a table."""
    if table == "decode":
        return [("murmur f32", seconds(m["murmur f32"])), ("tokens/s", rate(m["murmur f32"])), ("share of peak", share(m["murmur f32"])),
                ("PyTorch f32", seconds(m["torch f32"])), ("ratio", ratio(m["murmur f32"], m["torch f32"])),
                ("murmur bf16", seconds(m["murmur bf16"])), ("ratio to f32", ratio(m["murmur bf16"], m["torch f32"])),
                ("PyTorch bf16", seconds(m["torch bf16"])), ("ratio to bf16", ratio(m["murmur bf16"], m["torch bf16"]))]
    if table == "group":
        return [("murmur", seconds(m["murmur"])), ("tokens/s", rate(m["murmur"])), ("without sharing", seconds(m["murmur alone"])),
                ("gain", ratio(m["murmur"], m["murmur alone"])), ("PyTorch", seconds(m["torch"])), ("ratio", ratio(m["murmur"], m["torch"]))]
    if table == "train":
        return [("murmur", seconds(m["murmur"])), ("share of peak", share(m["murmur"])), ("PyTorch", seconds(m["torch"])),
                ("ratio", ratio(m["murmur"], m["torch"])), ("checkpointing", seconds(m["murmur checkpointing"])),
                ("ratio to PyTorch", ratio(m["murmur checkpointing"], m["torch"])),
                ("PyTorch, checkpointing", seconds(m["torch checkpointing"])),
                ("ratio to that", ratio(m["murmur checkpointing"], m["torch checkpointing"]))]
    if table == "memory":
        part = lambda name: f"{net(m[name]):,.0f} MiB ({net(m[name]) / net(m['torch']):.2f})"
        return [("PyTorch", f"{net(m['torch']):,.0f} MiB"), ("with checkpointing", part("torch checkpointing")), ("murmur", part("murmur")),
                ("murmur, checkpointing", part("murmur checkpointing")), ("murmur, LoRA 16", part("murmur LoRA 16"))]
    if table == "step":
        return [("murmur", seconds(m["murmur"])), ("of it sampling", f"{statistics.median(t['rollout_s'] for t in m['murmur']):.3g} s"),
                ("MiB", f"{net(m['murmur']):,.0f}"), ("TRL", seconds(m["TRL"])),
                ("of it sampling", f"{statistics.median(t['rollout_s'] for t in m['TRL']):.3g} s"), ("MiB", f"{net(m['TRL']):,.0f}"),
                ("ratio", ratio(m["murmur"], m["TRL"]))]
    return [("murmur f32", seconds(m["murmur f32"])), ("llama.cpp f32", seconds(m["llama f32"])),
            ("ratio", ratio(m["murmur f32"], m["llama f32"])), ("murmur bf16", seconds(m["murmur bf16"])),
            ("llama.cpp bf16", seconds(m["llama bf16"])), ("ratio", ratio(m["murmur bf16"], m["llama bf16"])),
            ("llama.cpp f16", seconds(m["llama f16"])), ("ratio", ratio(m["murmur bf16"], m["llama f16"]))]


TITLES = dict(
    decode=f"Decode: whole batch, prompts of {PROMPT} tokens, 64 new tokens (q05: {new_tokens('q05')}), PyTorch's lean loop",
    group="Decode of groups: the prompt's cache shared",
    train="Training step: forward, backward, AdamW",
    memory="Memory of a training step: peak less what the process has before the model (in brackets: by PyTorch's)",
    step="A whole GRPO step (prompts × completions × new tokens): rollouts and update; TRL's GRPOTrainer",
    llama="Decode: llama.cpp, which does not sample here")


def markdown(results, tables):
    out = [results["machine"], ""]
    for table in tables:
        rows = results["tables"].get(table)
        if not rows:
            continue
        cells = {key: columns(table, row["measured"]) for key, row in rows.items()}
        header = [name for name, _ in next(iter(cells.values()))]
        out += [f"### {TITLES[table]}", "", f"| | {' | '.join(header)} | load |", "|" + "---|" * (len(header) + 2)]
        out += [f"| {key} | {' | '.join(cell for _, cell in row)} | {rows[key]['load']:.1f} |" for key, row in cells.items()]
        out.append("")
    return "\n".join(out)


def machine(place):
    processor = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            processor = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), processor)
    return f"Machine: {processor}, {os.cpu_count()} cores. Allocator of the Python programs: {place.allocator}; murmur: mimalloc."


def main():
    names = lambda known: lambda text: known if text == "all" else [check(known, name) for name in text.split(",")]

    def check(known, name):
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
        return name
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=names(TABLES), default=TABLES, help="names of " + ", ".join(TABLES) + ", or all")
    parser.add_argument("--models", type=names(MODELS), default=MODELS, help="names of " + ", ".join(MODELS))
    parser.add_argument("--threads", type=lambda text: [int(n) for n in text.split(",")], default=[1, 4])
    parser.add_argument("--rounds", type=int, default=3, help="turns of every program in a row")
    parser.add_argument("--runs", type=int, default=3, help="measured runs of a turn")
    parser.add_argument("--budget", type=float, default=3600, help="seconds after which a table starts no more rows")
    parser.add_argument("--murmur", default="target/release/murmur")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--folder", default="target/bench", help="models and GGUF files")
    parser.add_argument("--allocator", default="auto", help="auto, none, glibc, or a library to preload")
    parser.add_argument("--out", default="target/bench/results.json")
    args = parser.parse_args()
    os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
    results = {"tables": {}}
    if os.path.exists(args.out):
        with open(args.out) as file:
            results = json.load(file)
    place = Place(args)
    results["machine"] = machine(place)
    try:
        measure(place, args, results)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
    print(markdown(results, args.table))


if __name__ == "__main__":
    main()
