"""Estimates the tokens of prompts with the weights of weights.json, as scripts/prompt-estimates describes it."""

import json
import pathlib
import sys

from features import NAMES, UNIT, features

weights = json.loads((pathlib.Path(__file__).parent / "weights.json").read_text())
typical, high = ([weights[name][at] for name in NAMES] for at in (0, 1))
while length := sys.stdin.buffer.readline():
    text = sys.stdin.buffer.read(int(length))
    counts = features(text)
    estimates = [-(-int(sum(count * weight for count, weight in zip(counts, column))) // UNIT) for column in (typical, high)]
    # No tokenizer that knows all bytes has more tokens than bytes.
    print(*[min(tokens, len(text)) for tokens in estimates])
