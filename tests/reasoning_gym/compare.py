"""Scores items of the native task families with reasoning-gym's own scorers.

    pip install -r tests/reasoning_gym/requirements.txt
    python tests/reasoning_gym/compare.py            # about a minute; writes tests/reasoning_gym/result.json

For each family that reasoning-gym also has, 1,000 items are converted to its entries. The answer of an
entry is never ours: it is computed here from the question alone (by Python, by reasoning-gym's own
interpreters, by trying everything). Our answers must score 1; every wrong one must score less.
"""

import argparse, ast, fractions, importlib.metadata, itertools, json, math, operator, pathlib, re, subprocess, sys

import bfi
import reasoning_gym

HERE = pathlib.Path(__file__).parent
COUNT = 1000


def numbers(text):
    return [int(n) for n in re.findall(r"(?<![\w)])-?\d+|\d+", text)]


def between(text, before, behind=None):
    rest = text.split(before, 1)[1]
    return rest if behind is None else rest.split(behind, 1)[0]


def arithmetic(text):
    """The value of digits, + - * and brackets; nothing else is evaluated."""
    signs = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}

    def value(node):
        match node:
            case ast.Constant(int(number)):
                return number
            case ast.UnaryOp(ast.USub(), inner):
                return -value(inner)
            case ast.BinOp(left, sign, right):
                return signs[type(sign)](value(left), value(right))
        raise ValueError(text)

    return value(ast.parse(text, mode="eval").body)


def factors(number):
    divisor = next((d for d in range(2, math.isqrt(number) + 1) if number % d == 0), number)
    return [divisor] + (factors(number // divisor) if divisor < number else [])


LEGS = dict(
    ants=6, bees=6, cats=4, crabs=10, cows=4, dogs=4, ducks=2, eagles=2, flies=6, goats=4, hens=2, shrimps=10,
    snails=0, snakes=0, spiders=8, scorpions=8,
)


def legs(question):
    pairs = re.findall(r"(\d+) (\w+)", question)
    return sum(int(count) * LEGS[name] for count, name in pairs)


def duration(question):
    times = [int(h) * 3600 + int(m) * 60 + int(s) for h, m, s in re.findall(r"(\d\d):(\d\d):(\d\d)", question)]
    left = times[1] - times[0] - sum(times[2:])
    return f"{left // 3600:02}:{left // 60 % 60:02}:{left % 60:02}"


def dice(question):
    *sides, least = numbers(question)
    throws = [sum(throw) for throw in itertools.product(*(range(1, side + 1) for side in sides))]
    chance = fractions.Fraction(sum(total >= least for total in throws), len(throws))
    return f"{chance.numerator}/{chance.denominator}"


def linear_equation(question):
    a, b, c, d = (int(n.replace(" ", "")) for n in re.findall(r"(?:- |-|\b)\d+", between(question, "x: ")))
    x = fractions.Fraction(d - b, a - c)
    return str(x) if x.denominator == 1 else "none"


def parse_complex(text):
    real, imaginary = re.fullmatch(r"(-?\d+)([+-]\d+)i", text).groups()
    return complex(int(real), int(imaginary))


def in_base(number, base):
    digit = "0123456789abcdefghijklmnopqrstuvwxyz"[number % base]
    return digit if number < base else in_base(number // base, base) + digit


def spiral(question):
    grid, read = [list(row) for row in between(question, "spaces: ").split(" / ")], []
    while grid:
        read += grid.pop(0)
        grid = [list(column) for column in zip(*grid)][::-1]
    return " ".join(read)


def life(question):
    grid = [[int(cell) for cell in row] for row in between(question, "grid ", " after").split()]
    side = len(grid)
    for _ in range(int(between(question, " after ").split()[0])):
        alive = lambda r, c: sum(
            grid[(r + i) % side][(c + j) % side] for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j
        )
        grid = [[int(alive(r, c) == 3 or grid[r][c] and alive(r, c) == 2) for c in range(side)] for r in range(side)]
    return json.dumps(grid)


def knights(question):
    claims = re.findall(r"([A-H]): ([^.]+)\.", question)
    names = [name for name, _ in claims]

    def holds(claim, honest):
        said = [honest[name] for name in re.findall(r"\b[A-H]\b", claim)]
        if "one kind" in claim:
            return said[0] == said[1]
        if "different" in claim:
            return said[0] != said[1]
        return not all(said) if claim.endswith("knave") else any(said)

    kinds = (dict(zip(names, bits)) for bits in itertools.product([True, False], repeat=len(names)))
    [honest] = [kind for kind in kinds if all(holds(claim, kind) == kind[name] for name, claim in claims)]
    return knights_sentence([name for name in names if honest[name]], names)


def knights_sentence(honest, names):
    """With longer names: the scorer reads a person called A as an article."""
    return ", and ".join(f"Person{name} is a {'knight' if name in honest else 'knave'}" for name in names) + "."


def sudoku(question):
    puzzle = between(question, "Complete ", " and").split()
    fits = lambda row, given: all(g in ("_", c) for g, c in zip(given, row))
    rows = [[row for row in map("".join, itertools.permutations("1234")) if fits(row, given)] for given in puzzle]
    apart = lambda grid: all(len(set(column)) == 4 for column in zip(*grid)) and all(
        len(set(grid[r][c : c + 2] + grid[r + 1][c : c + 2])) == 4 for r in (0, 2) for c in (0, 2)
    )
    [grid] = [grid for grid in itertools.product(*rows) if apart(grid)]
    return "\n".join(" ".join(row) for row in grid)


def queen_boards(given):
    boards = [[]]
    for row, wanted in enumerate(given):
        columns = range(len(given)) if wanted == "_" else [ord(wanted) - 97]
        free = lambda board, c: all(c != q and abs(c - q) != row - r for r, q in enumerate(board))
        boards = [board + [c] for board in boards for c in columns if free(board, c)]
    return boards


def board_text(columns):
    return "\n".join(" ".join("Q" if c == q else "_" for c in range(len(columns))) for q in columns)


def reach(rows, start):
    steps, layer, step = {start: 0}, {start}, 0
    while layer:
        step += 1
        around = {(r + i, c + j) for r, c in layer for i, j in ((1, 0), (-1, 0), (0, 1), (0, -1))}
        inside = lambda r, c: 0 <= r < len(rows) and 0 <= c < len(rows[0]) and rows[r][c] != "#"
        layer = {cell for cell in around if cell not in steps and inside(*cell)}
        steps.update(dict.fromkeys(layer, step))
    return steps


def find(rows, wanted):
    return [(r, c) for r, row in enumerate(rows) for c, cell in enumerate(row) if cell == wanted]


def maze(question):
    rows = between(question, "Rows: ").split()
    return reach(rows, find(rows, "S")[0])[find(rows, "G")[0]]


def island(question):
    rows = between(question, "Rows: ").translate(str.maketrans("#.", ".#")).split()
    return max(len(reach(rows, land)) for land in find(rows, "."))


def kinship(question):
    parent = {child: other for child, other in re.findall(r"(\w+) is (\w+)'s", question)}
    woman = set(re.findall(r"(\w+) is \w+'s daughter", question) + re.findall(r"(\w+) is a woman", question))
    x, y = re.search(r"What is (\w+) to (\w+)\?", question).groups()
    line = lambda person: [person] + (line(parent[person]) if person in parent else [])
    shared = next(person for person in line(x) if person in line(y))
    words = {
        (0, 1): "father mother", (1, 0): "son daughter", (1, 1): "brother sister", (0, 2): "grandfather grandmother",
        (2, 0): "grandson granddaughter", (1, 2): "uncle aunt", (2, 1): "nephew niece", (2, 2): "cousin cousin",
        (0, 3): "great-grandfather great-grandmother", (3, 0): "great-grandson great-granddaughter",
    }
    return words[line(x).index(shared), line(y).index(shared)].split()[x in woman]


def recurrence(question):
    t = [fractions.Fraction(n) for n in numbers(question)]
    below = t[1] * t[1] - t[0] * t[2]
    p, q = (t[2] * t[1] - t[0] * t[3]) / below, (t[1] * t[3] - t[2] * t[2]) / below
    assert p * t[3] + q * t[2] == t[4]
    return p * t[4] + q * t[3]


STEPS = {
    "reverse": lambda l: l[::-1], "sort": sorted, "drop first": lambda l: l[1:], "drop last": lambda l: l[:-1],
    "double each": lambda l: [2 * n for n in l], "add 1 to each": lambda l: [n + 1 for n in l],
    "first to the end": lambda l: l[1:] + l[:1],
}


def list_rule(question):
    count = int((re.search(r"same (\d) steps", question) or [0, 1])[1])
    pairs = [[numbers(side) for side in pair.split("->")] for pair in between(question, "end. ").split("; ")]

    def run(program, values):
        for name in program:
            values = STEPS[name](values)
        return values

    programs = itertools.product(STEPS, repeat=count)
    fits = (program for program in programs if all(run(program, a) == b for a, b in pairs[:2]))
    [answer] = {str(run(program, pairs[2][0])) for program in fits}
    return answer


def python_output(question):
    """Runs a program of the families loop and recursion, which hold no more than these words."""
    program = question.split("\n", 1)[1]
    call = re.search(r"f\(\d+\)", question.split("\n")[0])
    code = f"{program}\nprinted = {call[0]}" if call else program.replace("print(y)", "printed = y")
    assert re.fullmatch(r"(?:for|in|range|if|def|return|printed|[fnixy\d\s(),:=%*+<-])+", code), code
    scope = {"__builtins__": {"range": range}}
    exec(code, scope)
    return scope["printed"]


def slicing(question):
    text, slices = re.fullmatch(r"What is '([a-z]+)'((?:\[[-\d:]+\])+) in Python\?", question).groups()
    for one in slices[1:-1].split("]["):
        text = text[slice(*map(int, one.split(":")))]
    return text


def as_list(text):
    return str([int(n) for n in text.split(",")])


def quoted(text):
    return str(text.split(","))


def same(text):
    return text


def plain(name, oracle, ours=same, **metadata):
    """reasoning-gym's dataset, the entry's answer from a question, our answer in its notation."""
    return name, lambda question: {"answer": str(oracle(question)), "metadata": metadata}, ours


def entry(name, make, ours=same):
    return name, make, ours


def fraction_entry(question):
    a, b = numbers(question)
    simple = fractions.Fraction(a, b)
    parts = {"simplified_numerator": simple.numerator, "simplified_denominator": simple.denominator}
    return {"answer": f"{simple.numerator}/{simple.denominator}", "metadata": {"numerator": a, "denominator": b, **parts}}


def complex_entry(question):
    product = math.prod(parse_complex(text) for text in re.findall(r"\(([^)]+)\)", question))
    return {"answer": str(product), "metadata": {"result": (int(product.real), int(product.imag))}}


def sudoku_entry(question):
    answer = sudoku(question)
    return {"answer": answer, "metadata": {"solution": [[int(n) for n in row.split()] for row in answer.split("\n")]}}


def queens_entry(question):
    boards = [board_text(board) for board in queen_boards(between(question, "row by row: ", "."))]
    return {"answer": boards[0], "metadata": {"valid_answers": boards}}


def bitwise_entry(question):
    return {"answer": None, "metadata": {"problem": between(question, "of ", " in")}}


def knights_ours(text, question):
    return knights_sentence(list(text), re.findall(r"([A-H]): ", question))


def caesar(question):
    shift, word = int(re.search(r"moved (\d+)", question)[1]), between(question, "for ", ".")
    return "".join(chr((ord(c) - 97 - shift) % 26 + 97) for c in word)


def base(question):
    digits = re.search(r"number (\w+) in", question)[1]
    source, target = (int(n) for n in re.findall(r"base (\d+)", question))
    return in_base(int(digits, source), target)


def primes(question):
    low, high = numbers(question)
    return sum(all(n % d for d in range(2, math.isqrt(n) + 1)) for n in range(low, high + 1))


def haystack(question):
    facts = dict(reversed(fact.split(" likes ")) for fact in re.findall(r"\w+ likes \w+(?=\.)", question))
    return facts[re.search(r"Who likes (\w+)", question)[1]]


def output(value):
    return json.dumps({"output": str(value)})


FAMILIES = {
    "sum": plain("chain_sum", lambda q: arithmetic(q[4:])),
    "add": plain("chain_sum", lambda q: arithmetic(q[4:])),
    "gcd": plain("gcd", lambda q: math.gcd(*numbers(q))),
    "lcm": plain("lcm", lambda q: math.lcm(*numbers(q))),
    "product": plain("products", lambda q: arithmetic(between(q, "is ", "?"))),
    "expression": plain("basic_arithmetic", lambda q: arithmetic(between(q, "is ", "?"))),
    "fraction": entry("fraction_simplification", fraction_entry),
    "prime-factors": plain(
        "prime_factorization", lambda q: " × ".join(map(str, factors(numbers(q)[0]))), lambda t: t.replace("*", " × ")
    ),
    "legs": plain("leg_counting", legs),
    "duration": plain("time_intervals", duration, task_type="time_seconds"),
    "bitwise": entry("bitwise_arithmetic", bitwise_entry),
    "dice": plain("dice", dice),
    "linear-equation": plain("simple_equations", linear_equation),
    "complex": entry("complex_arithmetic", complex_entry),
    "cnt": plain("letter_counting", lambda q: q[6:].count(q[4])),
    "caesar": plain("caesar_cipher", caesar),
    "backward": plain("spell_backward", lambda q: q.split()[1][::-1]),
    "base": plain("base_conversion", base),
    "sort": plain("number_sorting", lambda q: [str(n) for n in sorted(numbers(q))], quoted, direction="ascending"),
    "primes": plain("count_primes", primes),
    "spiral": plain("spiral_matrix", spiral, " ".join),
    "life": plain("game_of_life", life, lambda t: json.dumps([[int(c) for c in row] for row in t.split()])),
    "knights": plain("knights_knaves", knights, knights_ours),
    "sudoku4": entry("mini_sudoku", sudoku_entry, lambda t: "\n".join(" ".join(row) for row in t.split())),
    "queens": entry("n_queens", queens_entry, lambda t: board_text([ord(c) - 97 for c in t])),
    "maze": plain("maze", maze),
    "angle": plain("simple_geometry", lambda q: (numbers(q)[0] - 2) * 180 - sum(numbers(q)[1:])),
    "kinship": plain("family_relationships", kinship),
    "largest-island": plain("largest_island", island),
    "seq": plain("number_sequence", lambda q: 2 * numbers(q)[-1] - numbers(q)[-2]),
    "recurrence": plain("number_sequence", recurrence),
    "list-rule": plain("list_functions", list_rule, as_list),
    "haystack": plain("needle_haystack", haystack),
    "bf": plain("bf", lambda q: bfi.interpret(between(q, "print? "), buffer_output=True)),
    "loop": plain("codeio", lambda q: output(python_output(q)), output),
    "recursion": plain("codeio", lambda q: output(python_output(q)), output),
    "slicing": plain("codeio", lambda q: output(slicing(q)), output),
}


def wrong_answers(answer, others):
    """Answers of other items, and this one with its parts changed."""
    wrong = {other for other in others if other != answer}
    if re.fullmatch(r"-?\d+", answer):
        wrong |= {str(int(answer) + 1), str(int(answer) - 10), answer + "7"}
    if "," in answer:
        wrong.add(",".join(answer.split(",")[::-1]))
    return wrong - {answer}


def convert(ours, answer, question):
    return ours(answer, question) if ours is knights_ours else ours(answer)


def compare(name, items):
    dataset_name, make, ours = FAMILIES[name]
    scorer = reasoning_gym.create_dataset(dataset_name, size=1, seed=1)
    answers = [item["answer"] for item in items]
    right, wrong, failures = 0, [], []
    for index, item in enumerate(items):
        record = {"question": item["question"], **make(item["question"])}
        converted = convert(ours, item["answer"], item["question"])
        score = scorer.score_answer(converted, record)
        right += int(score == 1.0)
        if score != 1.0:
            failures.append((item, score))
        # Answers of the same level look most like this one.
        near = answers[index + 5 : index + 30 : 5]
        for other in wrong_answers(item["answer"], near):
            text = convert(ours, other, item["question"])
            if text != converted:
                wrong.append((scorer.score_answer(text, record), item, other))
    most = max(wrong, key=lambda case: case[0])
    for item, score in failures[:3]:
        print(f"{name}: ours scored {score}: {item}", file=sys.stderr)
    if most[0] >= 1:
        print(f"{name}: wrong answer {most[2]!r} scored {most[0]}: {most[1]}", file=sys.stderr)
    return {
        "scorer": dataset_name,
        "items": len(items),
        "ours score 1": right,
        "wrong answers": len(wrong),
        "wrong answers below 1": sum(bool(score < 1) for score, _, _ in wrong),
        "best wrong score": math.floor(10_000 * most[0]) / 10_000,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", help="JSON lines instead of running the example of the crate")
    parser.add_argument("--out", default=str(HERE / "result.json"))
    args = parser.parse_args()
    if args.items:
        text = pathlib.Path(args.items).read_text()
    else:
        command = "cargo run --release -p murmur-tasks --example families -- items".split() + [str(COUNT)]
        text = subprocess.run(command, cwd=HERE.parent.parent, capture_output=True, text=True, check=True).stdout
    by_family = {}
    for item in map(json.loads, text.splitlines()):
        by_family.setdefault(item["family"], []).append(item)
    families = {name: compare(name, by_family[name]) for name in FAMILIES}
    result = {"reasoning-gym": importlib.metadata.version("reasoning-gym"), "families": families}
    pathlib.Path(args.out).write_text(json.dumps(result, indent=1) + "\n")
    good = all(
        f["items"] == f["ours score 1"] == COUNT and f["wrong answers"] == f["wrong answers below 1"]
        for f in families.values()
    )
    print(f"{len(families)} families, {'all as they must be' if good else 'NOT as they must be'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
