"""Draws the results of scripts/bench and scripts/soak: one chart for each known JSON file in the directory."""

import json
import pathlib
import sys
import textwrap

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

OURS = "#2171b5"
GREY = "#8c8c8c"
PEER = "#d98c3f"
# Grey: not this filter. Brown: filters that enforce no limits.
COLOURS = {
    "no filter": "#c8c8c8",
    "empty": GREY,
    "holding": "#6e6e6e",
    "empty-twice": "#6e6e6e",
    "filter": "#9ecae1",
    "developer": "#6baed6",
    "agent": "#4292c6",
    "guards": "#2171b5",
    "all": "#084594",
    "cpp": PEER,
    "lua": "#b5651d",
}


def main(directory):
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True})
    drawn = 0
    for name, draw in DRAWINGS.items():
        source = directory / f"{name}.json"
        if not source.exists():
            continue
        found = json.loads(source.read_text())
        figure = draw(found)
        caption(figure, found)
        target = directory / f"{name}.png"
        figure.savefig(target, dpi=140, bbox_inches="tight", facecolor="white")
        plt.close(figure)
        print(target)
        drawn += 1
    if not drawn:
        sys.exit(f"nothing to draw in {directory}")


def caption(figure, found):
    machine = found["machine"]
    version = found["envoy"].split("/")[1]
    load = machine["load_average"][0]
    parts = [f"Envoy {version}", f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_mib'] // 1024} GiB, Linux {machine['kernel']}"]
    parts.append(f"load {load} before" + (" (the machine was busy: compare with care)" if load > 1 else ""))
    if "date" in machine:
        parts.append(machine["date"])
    text = "\n".join(textwrap.wrap("; ".join(parts), 130))
    figure.text(0.01, -0.01, text, fontsize=7, color="#555555", va="top")


def colour(column):
    return COLOURS.get(column, OURS)


def of_rounds(rounds):
    return f"median and range of {rounds} rounds" if rounds > 1 else "one round only"


def errors(spread):
    return [[spread["median"] - spread["min"]], [spread["max"] - spread["median"]]]


def bar(axes, place, spread, shade, digits=0, label=None, width=0.8):
    """Draws a bar from zero with its spread and its value."""
    axes.bar(place, spread["median"], width, color=shade, label=label)
    axes.errorbar(place, spread["median"], yerr=errors(spread), color="#333333", linewidth=0.8, capsize=2)
    axes.annotate(f"{spread['median']:.{digits}f}", (place, spread["max"]), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=7)


def names(axes, labels):
    turned = {"rotation": 45, "ha": "right"} if len(labels) > 6 else {}
    axes.set_xticks(range(len(labels)), labels, **turned)


def zero_based(axes):
    axes.set_ylim(0, axes.dataLim.y1 * 1.12)
    axes.grid(axis="y", color="#e6e6e6")


def cost(found):
    rows = found["rows"]
    across = min(len(rows), 3)
    down = -(-len(rows) // across)
    figure, grid = plt.subplots(down, across, figsize=(4.2 * across, 3.1 * down), squeeze=False, constrained_layout=True)
    for axes, row in zip(grid.flat, rows):
        for place, cell in enumerate(row["cells"]):
            bar(axes, place, cell["micros"], colour(cell["column"]))
        names(axes, [cell["column"] for cell in row["cells"]])
        axes.set_title(row["workload"])
        axes.set_ylabel("µs of CPU time per request")
        zero_based(axes)
    for axes in grid.flat[len(rows):]:
        axes.axis("off")
    rounds = len(rows[0]["cells"][0]["rounds"])
    peers = " cpp and lua enforce no limits." if any(column["name"] in ("cpp", "lua") for column in found["columns"]) else ""
    figure.suptitle(f"Envoy's CPU time per request, one worker; {of_rounds(rounds)}. Scales differ.{peers}")
    return figure


def latency(found):
    rows = found["rows"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), constrained_layout=True)
    for place, row in enumerate(rows):
        bar(left, place - 0.2, row["p50_ms"], "#6baed6", 2, "p50" if place == 0 else None, 0.38)
        bar(left, place + 0.2, row["p99_ms"], "#08519c", 2, "p99" if place == 0 else None, 0.38)
    left.legend(frameon=False)
    left.set_ylabel("ms until the end of the answer")
    left.set_title(f"{found['workload']}: {found['per_second']} requests/s, open loop")
    for place, row in enumerate(rows):
        bar(right, place, row["most_per_second"], colour(row["column"]))
        shade = "white" if row["column"] == "all" else "black"
        text = f"{row['envoy_cores']['median']:.2f} cores"
        right.annotate(text, (place, 0), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=7, color=shade)
    right.set_ylabel("requests/s")
    right.set_title("Closed loop, 16 connections; with the cores that Envoy used")
    for axes in (left, right):
        names(axes, [row["column"] for row in rows])
        zero_based(axes)
    figure.suptitle(f"One worker; {of_rounds(found['rounds'])}; clients and server on the same cores")
    return figure


def contention(found):
    rows = found["rows"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), constrained_layout=True)
    for place, row in enumerate(rows):
        for shift, column, shade in ((-0.2, "empty", GREY), (0.2, "filter", OURS)):
            label = column if place == 0 else None
            bar(left, place + shift, row[column]["micros"], shade, 0, label, 0.38)
            bar(right, place + shift, row[column]["per_second"], shade, 0, label, 0.38)
    left.set_ylabel("µs of CPU time per request")
    right.set_ylabel("requests/s")
    for axes in (left, right):
        names(axes, [f"{row['workers']} worker{'s' if row['workers'] > 1 else ''}" for row in rows])
        zero_based(axes)
        axes.legend(frameon=False)
    figure.suptitle(f"One budget shared by all workers: {found['workload']}; median and range; clients and server on the same cores")
    return figure


def refusals(found):
    figure, axes = plt.subplots(figsize=(8.5, 3.6), constrained_layout=True)
    for place, row in enumerate(found["rows"]):
        bar(axes, place, row["micros"], OURS if row["status"] == 200 else "#9ecae1")
    names(axes, [row["name"] + ("\n(+ a connection)" if row["ends_connection"] else "") for row in found["rows"]])
    axes.set_ylabel("µs of CPU time per request")
    axes.set_title("CPU time of refused chats, compared with a served one; median and range")
    zero_based(axes)
    return figure


def soak(found):
    samples = found["samples"]
    minutes = [sample["at"] / 60 for sample in samples]
    figure, (memory, delay, tokens) = plt.subplots(3, 1, figsize=(9, 7.5), sharex=True, constrained_layout=True)
    memory.plot(minutes, [sample["resident"] / 1e6 for sample in samples], color=OURS, label="Envoy, resident")
    memory.plot(minutes, [max(sample["vms"], default=0) / 1e6 for sample in samples], color=PEER, label="largest wasm VM")
    line = found["memory_mb"]
    memory.set_title(f"{line['warm']:.1f} MB after {line['warm_after'] / 60:.0f} min, {line['end']:.1f} MB at the end, slope {line['slope']:+.2f} MB/h")
    memory.set_ylabel("MB")
    delay.plot(minutes, [sample["p99_ms"] for sample in samples], color="#08519c", label="p99 of small chats")
    delay.plot(minutes, [sample["p50_ms"] for sample in samples], color="#6baed6", label="p50")
    delay.set_yscale("log")
    delay.set_ylabel("ms (logarithmic)")
    tokens.plot(minutes, [sample["reserved"] / 1e6 for sample in samples], color=OURS, label="reserved")
    tokens.set_ylabel("million tokens")
    tokens.set_title("Reserved for requests in flight; 0 after the last one" if found["passed"] else "Reserved for requests in flight")
    tokens.set_xlabel("minutes")
    for axes in (memory, tokens):
        axes.set_ylim(0, axes.dataLim.y1 * 1.2)
    for axes in (memory, delay, tokens):
        axes.grid(color="#e6e6e6")
        axes.set_xlim(left=0)
        axes.legend(frameon=False, loc="best")
    held = "" if not found["missed"] else f", {found['missed']} not sent in time"
    figure.suptitle(f"Soak: {found['minutes']:.0f} min, {found['sent']} requests at {found['rate_wanted']}/s{held}: {'passed' if found['passed'] else 'FAILED'}")
    return figure


DRAWINGS = {"result": cost, "latency": latency, "contention": contention, "refusals": refusals, "soak": soak}

if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
