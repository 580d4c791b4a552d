"""A picture of M over the resolution, out of the benchmark's output.

    cargo bench --locked --no-default-features --features cli --bench modalities -- \\
        --data "$BATCHWRIGHT_TEST_DATA" --only emnist --resolution 250,500,1000,2000,4000,8000 --estimators consensus > lines.tsv
    python benches/modalities/picture.py lines.tsv docs/resolution.svg

One line a dataset: the median of M over the seeds, a band from the lowest to the highest, and the number of classes, dashed.
"""

import csv
import math
import statistics
import sys

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 24, 56
# Told apart without colour too, and seen on light and dark pages alike.
COLOURS = ["#2f7ed8", "#d2691e", "#2e9e6b", "#a05fc0", "#c94f6d"]
GREY = "#808080"


def read(path):
    """Of every dataset: the number of classes, and the counts by resolution."""
    sets = {}
    with open(path) as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            # Not the averages, nor the header of a second output.
            if not (row["seed"] or "").isdigit():
                continue
            classes, counts = sets.setdefault(row["dataset"], (int(row["true"]), {}))
            counts.setdefault(int(row["resolution"]), []).append(int(row["M"]))
    return sets


def main(source, target):
    sets = read(source)
    resolutions = sorted({r for _, counts in sets.values() for r in counts})
    most = max(max(classes, *(m for c in counts.values() for m in c)) for classes, counts in sets.values())
    low, high = math.log(resolutions[0]), math.log(resolutions[-1])
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100) if most / s <= 8)
    top = step * math.ceil(most / step)
    x = lambda r: LEFT + (math.log(r) - low) / (high - low) * (WIDTH - LEFT - RIGHT)
    y = lambda m: HEIGHT - BOTTOM - m / top * (HEIGHT - TOP - BOTTOM)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="13" fill="{GREY}">',
        "<title>Number of modalities over the resolution</title>",
    ]
    for m in range(0, top + 1, step):
        out.append(f'<path d="M{LEFT} {y(m):.1f}H{WIDTH - RIGHT}" stroke="{GREY}" stroke-opacity=".25"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y(m) + 4:.1f}" text-anchor="end">{m}</text>')
    for r in resolutions:
        out.append(f'<path d="M{x(r):.1f} {y(0):.1f}v5" stroke="{GREY}"/>')
        out.append(f'<text x="{x(r):.1f}" y="{y(0) + 20:.1f}" text-anchor="middle">{r}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">resolution (rows of a block, log scale)</text>')
    out.append(
        f'<text transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">modalities M</text>'
    )
    for colour, (name, (classes, counts)) in zip(COLOURS, sets.items()):
        there = sorted(counts)
        upper = [f"{x(r):.1f} {y(max(counts[r])):.1f}" for r in there]
        lower = [f"{x(r):.1f} {y(min(counts[r])):.1f}" for r in reversed(there)]
        line = [f"{x(r):.1f} {y(statistics.median(counts[r])):.1f}" for r in there]
        out.append(f'<path d="M{"L".join(upper + lower)}Z" fill="{colour}" fill-opacity=".18"/>')
        out.append(f'<path d="M{"L".join(line)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point in line:
            px, py = point.split()
            out.append(f'<circle cx="{px}" cy="{py}" r="3" fill="{colour}"/>')
        out.append(
            f'<path d="M{LEFT} {y(classes):.1f}H{WIDTH - RIGHT}" stroke="{colour}" stroke-dasharray="6 5"/>'
        )
        px, py = line[-1].split()
        out.append(f'<text x="{px}" y="{float(py) - 10:.1f}" text-anchor="end" fill="{colour}">{name}</text>')
    out.append("</svg>")
    with open(target, "w") as file:
        file.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
