"""Draws time to the same held-out loss against the link, one line a system, from the output of the benches wan_ddp (step
times) and learning (steps to a loss), and prints it as rows. Time is steps times the step's time: what a codec does to the
numbers does not depend on the link. `auto` is counted with the steps of the coarsest codec that its budget allows."""

import collections
import json
import statistics

from common import Parser, emit

LABELS = {"5mbit 100ms": "5 Mbit/s\n100 ms", "25mbit 100ms": "25 Mbit/s\n100 ms", "100mbit 100ms": "100 Mbit/s\n100 ms",
          "100mbit 300ms 0.5%": "100 Mbit/s\n300 ms, 0.5 %", "1gbit 20ms": "1 Gbit/s\n20 ms", "loopback": "loopback"}
LEARNS_LIKE = {  # exact codecs, and Python's DDP, follow one curve (benches parity, convergence)
    "longhaul zstd": "longhaul none", "python none": "longhaul none", "longhaul bf16": "python bf16",
    "longhaul auto:error=0.2": "longhaul rms:step=1,result=0.5",
    "longhaul auto:error=0.3": "longhaul rms:step=2,result=0.5",
}
DRAWN = ["python none", "python fp16", "python bf16", "python powersgd1", "python powersgd4", "longhaul none", "longhaul int8",
         "longhaul auto:error=0.2", "longhaul auto:error=0.3"]


def smooth(curve):
    """Means of three looks: one look at the held-out part is noisy."""
    steps = sorted(curve)
    return {steps[i]: statistics.mean(curve[step] for step in steps[max(i - 1, 0):i + 2]) for i in range(len(steps))}


def steps_to(curve, loss):
    """Where the curve first comes down to the loss, between two looks by a straight line; None: it does not."""
    before = None
    for step, value in sorted(smooth(curve).items()):
        if value <= loss:
            if before is None:
                return step
            return before[0] + (step - before[0]) * (before[1] - loss) / (before[1] - value)
        before = (step, value)
    return None


def read(paths):
    curves, times = collections.defaultdict(dict), {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            rows = [json.loads(line) for line in file if line.startswith("{")]
        for row in rows:
            if row["bench"] == "learning":
                name, step = row["case"].rsplit(", step ", 1)
                curves[name][int(step)] = row["value"]
            elif row["bench"] == "wan_ddp" and row["metric"] == "step":
                link, name = row["case"].split(", ", 1)
                times[link, name] = row["value"] / 1e3
    return curves, times


def draw(minutes, path):
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "longhaul"
    from matplotlib import pyplot
    links = [link for link in LABELS if any(link in by_link for by_link in minutes.values())]
    figure, axes = pyplot.subplots(figsize=(9, 5.5))
    for name in filter(minutes.get, DRAWN):
        ours = name.startswith("longhaul")
        shown = [(i, minutes[name][link]) for i, link in enumerate(links) if link in minutes[name]]
        axes.plot(*zip(*shown), marker="o" if ours else "s", linestyle="-" if ours else "--",
                  linewidth=2.2 if "auto" in name else 1.3, label=name)
    axes.set_xticks(range(len(links)), [LABELS[link] for link in links])
    axes.set_yscale("log")
    axes.set_ylabel("minutes to the same held-out loss")
    axes.grid(axis="y", alpha=0.3, which="both")
    axes.legend(fontsize=8, ncols=2)
    axes.set_title("Four hosts, a transformer of 3.3 million parameters, fp32, Gloo")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = Parser("wan_picture", __doc__)
    parser.add_argument("rows", nargs="+", help="files with the output of wan_ddp and learning")
    parser.add_argument("--picture", default="docs/wan_ddp.svg")
    parser.add_argument("--loss", type=float, help="nats (default: where codec none is at three quarters of its steps)")
    options = parser.parse_args()
    curves, times = read(options.rows)
    exact = smooth(curves["longhaul none"])
    loss = options.loss or exact[sorted(exact)[len(exact) * 3 // 4]]
    minutes = collections.defaultdict(dict)
    for (link, name), seconds in times.items():
        curve = curves.get(name) or curves.get(LEARNS_LIKE.get(name, ""))
        steps = steps_to(curve, loss) if curve else None
        if steps is None:
            emit("wan_picture", f"{link}, {name}", f"does not reach {loss:.3f} nats", None, "")
            continue
        minutes[name][link] = steps * seconds / 60
        emit("wan_picture", f"{link}, {name}", f"time to {loss:.3f} nats", round(minutes[name][link], 2), "min")
    draw(minutes, options.picture)


if __name__ == "__main__":
    main()
