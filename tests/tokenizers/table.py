"""Prints how estimates of prompt tokens compare with real tokenizers, as Markdown.

Usage: table.py CORPUS COUNTS COMMAND…
COMMAND is described in scripts/prompt-estimates. The tables use the half of the ordinary prompts that the weights are not fitted to.
"""

import json
import subprocess
import sys

import numpy
from count import NAMES

# What the filter adds to the high estimate of a request with one message.
ALLOWANCE = 64 + 16


def estimate(command, texts):
    """Returns the typical and the high estimate of each text."""
    data = b"".join(b"%d\n%s" % (len(text), text) for text in texts)
    printed = subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout.split()
    estimates = numpy.array(printed, dtype=float).reshape(-1, 2)
    if len(estimates) != len(texts):
        sys.exit(f"the program printed {len(estimates)} estimates of {len(texts)} prompts")
    return estimates.T


def row(*cells):
    print("|", " | ".join(cells), "|")


def header(*cells):
    row(*cells)
    row(*["---"] + ["---:"] * (len(cells) - 1))


def main():
    corpus, table, command = sys.argv[1], numpy.load(sys.argv[2]), sys.argv[3:]
    with open(corpus) as lines:
        prompts = [json.loads(line) for line in lines]
    reported = numpy.array([prompt["half"] == "report" for prompt in prompts])
    prompts, table = [prompt for prompt in prompts if prompt["half"] == "report"], table[reported].astype(float)
    texts = [prompt["text"].encode() for prompt in prompts]
    size = numpy.array([len(text) for text in texts], dtype=float)
    kinds = numpy.array([prompt["kind"] for prompt in prompts])
    ordinary = numpy.array([prompt["ordinary"] for prompt in prompts])
    typical, high = estimate(command, texts)
    median, densest = numpy.median(table, axis=1), table.max(axis=1)

    def quantiles(values, *at):
        return [f"{value:.2f}" for value in numpy.quantile(values, at)]

    def describe(name, chosen):
        above = (densest > high)[chosen].mean(), (densest > high + ALLOWANCE)[chosen].mean()
        row(
            name,
            str(chosen.sum()),
            " / ".join(quantiles((typical / median)[chosen], 0.05, 0.5, 0.95)),
            " / ".join(quantiles((high / densest)[chosen], 0.01, 0.5, 0.99)),
            *[f"{share:.1%}" for share in above],
        )

    print("Tokens per byte (median)\n")
    header("Kind", *NAMES)
    for kind in dict.fromkeys(kinds):
        row(kind, *[f"{value:.2f}" for value in numpy.median((table / size[:, None])[kinds == kind], axis=0)])

    print("\nOrdinary prompts\n")
    header("Kind", "Prompts", "Typical ÷ median (5, 50, 95 %)", "High ÷ densest (1, 50, 99 %)", "Above high", "Above high + allowance")
    for kind in dict.fromkeys(kinds[ordinary]):
        describe(kind, kinds == kind)
    describe("**All**", ordinary)
    for smallest, largest in [(0, 1_000), (1_000, 10_000), (10_000, 1e9)]:
        describe(f"{smallest:,.0f} to {min(largest, 100_000):,.0f} bytes", ordinary & (size >= smallest) & (size < largest))

    print("\nOther prompts\n")
    header("Kind", "Prompts", "Typical ÷ median (5, 50, 95 %)", "High ÷ densest (1, 50, 99 %)", "Tokens ÷ high (worst)")
    for kind in dict.fromkeys(kinds[~ordinary]):
        chosen = kinds == kind
        row(
            kind,
            str(chosen.sum()),
            " / ".join(quantiles((typical / median)[chosen], 0.05, 0.5, 0.95)),
            " / ".join(quantiles((high / densest)[chosen], 0.01, 0.5, 0.99)),
            f"{(densest / high)[chosen].max():.2f}",
        )


main()
