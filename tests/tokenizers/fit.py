"""Fits the weights of the estimates to the numbers of tokens, on the half of the ordinary prompts that the table does not use.

Usage: fit.py CORPUS COUNTS WEIGHTS
Writes WEIGHTS: the typical and the high weight of each feature, in units of 1/UNIT token. A weight is a quantile regression of the relative error: of the
median of the tokenizers for typical, of the densest one for high.
"""

import json
import sys

import numpy
from features import ASCII, NAMES, UNIT, WIDTHS, features
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, eye, hstack

# High is to be above the densest tokenizer by this factor for this share of the prompts: texts that are not known differ from those that are.
MARGIN, SHARE = 1.03, 0.995
# The lowest high weights, in tokens per byte. They bound how far a dense prompt exceeds the estimate. A start has no bytes of its own.
FLOORS = {"lower": 1 / 4, "upper": 1 / 4, "control": 1 / 2, "punctuation": 1 / 4, "digit": 1 / 2, "space": 1 / 8, "digit start": 0, "space start": 0}
FLOOR_BEYOND_ASCII = 1 / 3
# Higher where the texts are few: small Latin alphabets, marks that combine, Han, Hangul, forms of other characters.
FLOORS_OF_RARE = {"c4-c9": 1, "ca-cd": 3 / 4, "e4-e9": 1 / 2, "ea-ed": 1 / 2, "ee-ef": 2 / 3}
# Characters that are too rare in the texts to fit: (lowest, highest) typical weight, in tokens.
RARE = {"c2-c2": (1 / 2, 1), "c3-c3": (1 / 4, 1), "e2-e2": (1 / 2, 1.5), "ee-ef": (3 / 4, 2)}


def quantile_regression(counts, tokens, share, bounds):
    """Returns the weights with which `share` of the estimates are at least `tokens`, and the relative errors are least."""
    number, width = counts.shape
    relative = csr_matrix(counts / tokens[:, None])
    costs = numpy.concatenate([numpy.zeros(width), numpy.full(number, share), numpy.full(number, 1 - share)])
    equations = hstack([relative, eye(number), -eye(number)]).tocsr()
    found = linprog(costs, A_eq=equations, b_eq=numpy.ones(number), bounds=bounds + [(0, None)] * (2 * number), method="highs-ipm")
    if not found.success:
        sys.exit(found.message)
    return [round(weight * UNIT) for weight in found.x[:width]]


def main():
    with open(sys.argv[1]) as lines:
        prompts = [json.loads(line) for line in lines]
    chosen = [at for at, prompt in enumerate(prompts) if prompt["half"] == "fit"]
    counts = numpy.array([features(prompts[at]["text"].encode()) for at in chosen], dtype=float)
    tokens = numpy.load(sys.argv[2])[chosen].astype(float)
    # A space that starts a run may weigh one token in all.
    wide = dict(zip(NAMES, WIDTHS)) | {"digit start": 1, "space start": 1 - FLOORS["space"]}
    lowest = {name: FLOORS[name] if name in ASCII else FLOORS_OF_RARE.get(name, FLOOR_BEYOND_ASCII) * wide[name] for name in NAMES}
    high = quantile_regression(counts, tokens.max(axis=1) * MARGIN, SHARE, [(lowest[name], wide[name]) for name in NAMES])
    median = numpy.median(tokens, axis=1)
    typical = quantile_regression(counts, median, 0.5, [RARE.get(name, (0, wide[name] * 2 if name in ASCII else wide[name])) for name in NAMES])
    with open(sys.argv[3], "w") as file:
        lines = [f"  {json.dumps(name)}: {json.dumps(weights)}" for name, weights in zip(NAMES, map(list, zip(typical, high)))]
        file.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
