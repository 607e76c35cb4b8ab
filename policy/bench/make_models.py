"""Writes random-weight models in the shapes of shapes.py as Hugging Face directories.

Usage: python make_models.py FOLDER [NAME ...]     Needs: pip install torch transformers
"""
import os
import sys

from shapes import SHAPES, model

folder, names = sys.argv[1], sys.argv[2:] or list(SHAPES)
for name in names:
    # No special tokens: nothing ends a completion early.
    made = model(name, bos_token_id=None, eos_token_id=None, pad_token_id=None)
    print(name, sum(parameter.numel() for parameter in made.parameters()), flush=True)
    made.save_pretrained(os.path.join(folder, name))
