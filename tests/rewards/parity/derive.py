"""The published reward formulas a second time, from the papers alone, to fill and check the tables beside this file.

    python tests/rewards/parity/derive.py          # writes `want` and `total` of every case into the tables

Nothing of the package is imported: not the parser, not the rewards, not the recipes. How a text is to be read was
decided by hand and stands in each case (`items`, `think`, `repeats`); the arithmetic is done here, in plain Python,
pixel by pixel and by trying every pairing. Fields of a case:

    body / text     the answer between the tags, or the whole text; `many: [n, item]` puts n copies of item at @@
    scene           which target: see SCENES
    items           what a careful reader takes from the text, one entry a listed item: b box, p points, and 0 where the
                    item is not exactly in form (e), its box is not (bo) or its points are not (po); null: unreadable
    think           1 where the text is think block + answer block and nothing else (default)
    repeats         sentences of the thought that were said before (default 0)
    mask, before    rectangles that the segmenter gave; boxes of the answer before (SocioReasoner's second stage)
"""

import itertools
import math
import sys
from pathlib import Path

import yaml

SIZE_WH = (400, 300)
# Squares of odd sides: the centre of the largest inscribed circle is the middle of one pixel.
A, B = [20, 30, 61, 71], [220, 40, 241, 61]
CENTRES = {tuple(A): [40.5, 50.5], tuple(B): [230.5, 50.5]}
SCENES = {"one": [A], "two": [A, B], "none": []}
TERMS = {
    "seg_zero": ["think_format", "answer_format", "single_box_iou", "single_box_l1", "points_distance"],
    "vision_reasoner": ["think_format", "part_format", "object_accuracy", "non_repeat"],
    "think2seg": ["mask_iou", "answer_format", "think_format"],
    "socioreasoner": ["think_format", "item_format", "box_accuracy", "box_count"],
    "socioreasoner_refine": ["think_format", "refine_format", "mask_iou", "point_count"],
}
WEIGHTS = {"think2seg": [2, 1, 1]}


def text_of(case):
    text = case.get("text") or f"<think>so</think><answer>{case['body']}</answer>"
    count, item = case.get("many", (0, ""))
    return text.replace("@@", ", ".join([item] * count))


def items_of(case):
    return None if case["items"] is None else case["items"] * case.get("many", (1, ""))[0]


def usable(case):
    return [item for item in items_of(case) or [] if item["b"]]


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def box_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = width * height if width > 0 and height > 0 else 0
    return shared / (area(a) + area(b) - shared)


def l1(a, b):
    return sum(abs(x - y) for x, y in zip(a, b, strict=True)) / 4


def inside(points, box):
    return all(box[0] < x < box[2] and box[1] < y < box[3] for x, y in points)


def pixels(rectangles):
    return {(x, y) for x1, y1, x2, y2 in rectangles for x in range(x1, x2) for y in range(y1, y2)}


def best_sum(rows, columns, gain):
    """The largest sum over one-to-one pairs: every way to give each of the fewer side a partner."""
    if len(rows) < len(columns):
        return best_sum(columns, rows, lambda column, row: gain(row, column))
    ways = itertools.permutations(range(len(rows)), len(columns))
    return max(sum(gain(rows[row], column) for row, column in zip(way, columns, strict=True)) for way in ways)


def matched(case, gain, highest):
    """Sum of the best pairing / max(K, N), at most 120 objects."""
    found, wanted = usable(case)[:120], SCENES[case["scene"]]
    if not found and not wanted:
        return highest if items_of(case) == [] else 0
    if not found or not wanted:
        return 0
    return best_sum(found, wanted, gain) / max(len(found), len(wanted))


def box_gain(item, target):
    return (box_iou(item["b"], target) > 0.5) + (l1(item["b"], target) < 10)


def object_gain(item, target):
    gain = box_gain(item, target)
    if item.get("p"):
        near = math.dist(item["p"][0], CENTRES[tuple(target)]) < 30
        gain += near and inside(item["p"][:1], item["b"])
    return gain


def mean(values, of_none):
    return sum(values) / len(values) if values else of_none


def think_format(case):
    return case.get("think", 1)


def in_form(case, points, empty):
    items = items_of(case)
    if items is None or not items:
        return 0 if items is None else empty
    if not usable(case):
        return 0
    return int(all(item.get("e", 1) for item in items) and all(len(item["p"]) == points for item in usable(case)))


def nothing_there(case):
    """An empty list is in form where there is nothing; the published code pays no item that is not listed."""
    return int(not SCENES[case["scene"]])


def item_format(case):
    if not usable(case) and items_of(case) != []:
        return 0
    return mean([item.get("e", 1) for item in items_of(case)], nothing_there(case))


def part_format(case):
    if not usable(case) and items_of(case) != []:
        return 0
    return mean([item.get("bo", 1) + item.get("po", 1) for item in items_of(case)], 2 * nothing_there(case))


def box_count(case):
    if not usable(case) and items_of(case) != []:
        return 0
    found, wanted = len(usable(case)), len(SCENES[case["scene"]])
    return math.exp(-2 * abs(found - wanted) / wanted) if wanted else int(found == 0)


def whole_box():
    return [min(A[0], B[0]), min(A[1], B[1]), max(A[2], B[2]), max(A[3], B[3])]


def first_box(case, rule):
    target = A if case["scene"] == "one" else whole_box()
    return int(bool(usable(case)) and rule(usable(case)[0]["b"], target))


def points_distance(case):
    # Scene "one" is not asked: its second circle lies in a corner. Scene "two": one centre in each square.
    if not usable(case) or len(usable(case)[0]["p"]) != 2 or not inside(usable(case)[0]["p"], usable(case)[0]["b"]):
        return 0
    first, second = usable(case)[0]["p"]
    one, other = CENTRES[tuple(A)], CENTRES[tuple(B)]
    straight, crossed = (
        math.dist(first, one) + math.dist(second, other),
        math.dist(first, other) + math.dist(second, one),
    )
    return int(min(straight, crossed) / 2 < 100)


def mask_iou(case):
    target, mask = pixels(SCENES[case["scene"]]), pixels(case.get("mask", []))
    if not target:
        return int(items_of(case) == [])
    return len(target & mask) / len(target | mask) if usable(case) else 0


def refine_format(case):
    """As many items as before, the same boxes, every point strictly inside its box; mean over items."""
    items, before = items_of(case), case["before"]
    if items is None or len(usable(case)) != len(items) or len(items) != len(before):
        return 0
    right = [
        item.get("e", 1) and item["b"] in before and inside(item["p"], item["b"]) for item in items
    ]  # no two boxes before are alike in these tables
    return mean(list(map(int, right)), nothing_there(case))


def point_count(case):
    if not usable(case):
        return int(items_of(case) == [] and not SCENES[case["scene"]])
    return mean([math.exp(-((len(item["p"]) - 2) ** 2) / 8) for item in usable(case)], 0)


RULES = {
    "think_format": think_format,
    "item_format": item_format,
    "part_format": part_format,
    "box_count": box_count,
    "box_accuracy": lambda case: matched(case, box_gain, 2),
    "object_accuracy": lambda case: matched(case, object_gain, 3),
    "non_repeat": lambda case: int(case.get("repeats", 0) < 2),
    "single_box_iou": lambda case: first_box(case, lambda a, b: box_iou(a, b) > 0.5),
    "single_box_l1": lambda case: first_box(case, lambda a, b: l1(a, b) < 10),
    "points_distance": points_distance,
    "mask_iou": mask_iou,
    "refine_format": refine_format,
    "point_count": point_count,
}


def derived(table, case):
    """The value of each of the recipe's terms, in their order, and the weighted total."""
    empty = {"answer_format": int(table == "think2seg")}
    values = [in_form(case, 2, empty[name]) if name == "answer_format" else RULES[name](case) for name in TERMS[table]]
    weights = WEIGHTS.get(table, [1] * len(values))
    return values, sum(weight * value for weight, value in zip(weights, values, strict=True))


def main():
    for path in sorted(Path(__file__).parent.glob("*.yaml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        done = []
        for line in lines:
            if line.startswith("- {"):
                case = yaml.safe_load(line)[0]
                values, total = derived(path.stem, case)
                shown = ", ".join(f"{value:.10g}" for value in values)
                line = line.split(", want: ")[0].removesuffix("}") + f", want: [{shown}], total: {total:.10g}}}"
            done.append(line)
        path.write_text("\n".join(done) + "\n", encoding="utf-8")
        sys.stdout.write(f"{path.name}: {sum(line.startswith('- {') for line in done)} cases\n")


if __name__ == "__main__":
    main()
