"""Loads what `murmur export RUN --dataset DIR` wrote with Hugging Face's `datasets`, and checks that nothing is lost.

    murmur demo --seed 7 --rounds 4 --out RUN && murmur export RUN --dataset DIR --parquet
    pip install datasets
    python tests/dataset.py DIR > tests/dataset.json
"""

import json
import sys
import tempfile
from pathlib import Path

import datasets
from datasets import get_dataset_config_names, load_dataset

KINDS = {"int64": int, "string": str, "bool": bool}


def check(directory: Path, name: str, cache: str) -> int:
    lines = (directory / "data" / f"{name}.jsonl").read_text().splitlines()
    table = load_dataset(str(directory), name, split="train", cache_dir=cache)
    assert len(table) == len(lines), (name, len(table), len(lines))
    for row, line in zip(table, lines):
        assert row == json.loads(line), (name, row, line)
    for column, feature in table.features.items():
        kind = KINDS[feature.dtype]
        assert all(value is None or type(value) is kind for value in table[column]), (name, column)
    return len(table)


def main() -> None:
    directory = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as cache:
        names = get_dataset_config_names(str(directory))
        assert {f"{name}.jsonl" for name in names} == {file.name for file in (directory / "data").iterdir()}
        rows = {name: check(directory, name, cache) for name in names}
        for file in sorted(directory.glob("parquet/*.parquet")):
            lines = (directory / "data" / f"{file.stem}.jsonl").read_text().splitlines()
            table = load_dataset("parquet", data_files=str(file), split="train", cache_dir=cache)
            assert [dict(row) for row in table] == [json.loads(line) for line in lines], file
            rows[f"parquet/{file.stem}"] = len(table)
        for pack in sorted((directory / "packs").iterdir()):
            items = load_dataset("json", data_files=str(pack / "items.jsonl"), split="train", cache_dir=cache)
            rows[f"packs/{pack.name}"] = len(items)
    print(json.dumps({"datasets": datasets.__version__, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
