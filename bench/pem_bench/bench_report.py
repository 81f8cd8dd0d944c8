"""The reports: tables for people, made of the same content that is written as JSON.

Every content has the key `machine`; what else identifies a run belongs beside it, and into
`heading`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .machine import busy_warning, machine_line
from .speedups import SPEEDUP_GOAL

CPU_GOAL_MS = 14.0  # of the steps: four cores at 284 images a second, the aim on a T4
RATE_GOAL = 140.0  # images a second of the steps on two cores
OVERHEAD_GOAL = 0.9  # of the reachable rate
RATIO_GOAL = 3.0  # p99 over the median
MEMORY_GOAL_MB = 2000.0
GROWTH_GOAL = 0.01  # of the peak, over the second half: the allocator's noise is below that

# The columns of the tables: header, format of the cell.
ENGINE_CELLS = {
    "batch": "{batch}", "ms a call": "{median_ms:.2f}", "10th %": "{low_ms:.2f}",
    "90th %": "{high_ms:.2f}", "images/s": "{images_per_second:.2f}", "calls": "{calls}",
    "times naive": "{times}", "of the peak here": "{share}",
}  # fmt: skip
AGREEMENT_CELLS = {
    "class ids": "{class_ids:.1%}", "scores within": "{scores:.1e}", "pixels": "{masks:.3%}"
}  # fmt: skip
ROOFLINE_CELLS = {
    "kernels": "{kernels}", "GFLOP": "{gflop:.2f}", "MB": "{megabytes:.1f}",
    "µs": "{microseconds:.0f}", "bound by": "{by}",
}  # fmt: skip
LOAD_CELLS = {
    "images a second": "{images_per_second:.2f}", "p50 ms": "{p50_ms:.0f}",
    "p99 ms": "{p99_ms:.0f}", "server's CPU ms an image": "{server_cpu_ms:.0f}",
}  # fmt: skip
STEP_CELLS = {
    "server and steps": "{server_cpu_ms:.2f}", "the client": "{client_cpu_ms:.2f}",
    "images/s": "{images_per_second:.2f}", "p50 ms": "{p50_ms:.0f}", "p99 ms": "{p99_ms:.0f}",
}  # fmt: skip
SYSTEM_CELLS = {
    "MB": "{megabytes:.0f}", "scores within": "{difference[score]:.3f}",
    "mask IoU": "{difference[mask_iou]:.1%}",
}  # fmt: skip
MEMORY_CELLS = {
    "idle": "{idle_mb:.0f}", "peak": "{peak_mb:.0f}",
    "requests": "{requests}", "growth, 2nd half": "{growth_mb:+.1f}",
}  # fmt: skip

Content = Mapping[str, Any]


def publish(folder: Path, name: str, content: Content, text: str) -> None:
    """Print the text and write it with the content as JSON into `folder`."""
    if warning := busy_warning(content.get("machine", {})):
        text += f"\n{warning}"
    print(text)
    print(write_json(folder / f"{name}.json", {**content, "text": text}))


def write_json(path: Path, content: Content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def heading(content: Content) -> list[str]:
    """What every report starts with."""
    versions = ", ".join(f"{name} {v}" for name, v in content.get("packages", {}).items() if v)
    return [machine_line(content["machine"]), *filter(None, [versions]), ""]


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, all others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    ]


def table(title: str, rows: Iterable[tuple[str, Content]], cells: Mapping[str, str]) -> list[str]:
    """A line for each named row; `cells` are the format of each column, by its header."""
    formatted = [(name, *(cell.format(**row) for cell in cells.values())) for name, row in rows]
    return aligned([(title, *cells), *formatted])


def met(is_met: bool) -> str:
    return "met" if is_met else "MISSED"


def engine_text(content: Content) -> str:
    results, peaks, t4 = content["results"], content["peaks_gflop_per_second"], content["t4"]
    names = list(dict.fromkeys(result["backend"] for result in results))
    grouped = sorted(results, key=lambda result: names.index(result["backend"]))
    rows = [(result["backend"], {**result, **_comparisons(result, peaks)}) for result in grouped]
    lines = [*heading(content), *table("", rows, ENGINE_CELLS)]
    if content["agreement_with_onnx_runtime"]:
        lines += ["", "Against ONNX Runtime FP32, on one image:"]
        lines += table("", content["agreement_with_onnx_runtime"].items(), AGREEMENT_CELLS)
    lines += ["", *(f"Not run: {b['name']} {b['reason']}." for b in content["not_run"])]
    lines.append(
        f"T4 with TensorRT: {t4['card']} images/s (the model card), our aim {t4['aim']}, roofline "
        f"{t4['roofline']:.0f} ({t4['precision']}, batch 8)."
    )
    served = next(iter(peaks), None)
    for result in results:
        times = result["times_naive"]
        if (result["backend"], result["batch"]) == (served, 1) and times is not None:
            lines.append(
                f"Served here by default: {served}, {times:.2f} times as fast as the naive graph "
                f"(goal: {SPEEDUP_GOAL:.0f}, {met(times >= SPEEDUP_GOAL)})."
            )
    return "\n".join(lines)


def engine_chart(path: Path, results: Sequence[Content]) -> None:
    """A bar for each backend and batch size: milliseconds an image."""
    from matplotlib.figure import Figure  # late: it takes a second

    names = [f"{result['backend']}, batch {result['batch']}" for result in results]
    figure = Figure(figsize=(9, 1 + len(names) / 3), layout="constrained")
    axes = figure.subplots()
    axes.barh(names, [result["median_ms"] / result["batch"] for result in results])
    axes.set_xlabel("ms an image")
    figure.savefig(path)


def _comparisons(result: Content, peaks: Mapping[str, float]) -> dict[str, str]:
    times, share = result["times_naive"], result["share_of_peak"]
    return {
        "times": "" if times is None else f"{times:.2f}",
        "share": "" if share is None else f"{share:.0%} of {peaks[result['backend']]:.0f} GFLOP/s",
    }


def roofline_text(content: Content) -> str:
    """The bound, part by part, for one image."""
    device, batch, bound = content["device"], content["batch"], content["images_per_second"]
    parts = content["parts"]
    whole = 1e6 / bound  # microseconds an image
    total = {key: sum(part[key] for part in parts) for key in ("kernels", "gflop", "megabytes")}
    rows = [(p["section"], {**p, "by": _bound_by(p["memory_bound"])}) for p in parts]
    rows.append(("all", {**total, "microseconds": whole, "by": ""}))
    title = f"{device['name']}, {content['precision']}, batch {batch}, for each image"
    peaks = device["peaks"]
    return "\n".join(
        [
            *table(title, rows, ROOFLINE_CELLS),
            "",
            f"At most {bound:.0f} images/s: every kernel at {peaks['fp16'] / 1e12:.0f} TFLOP/s "
            f"FP16, {peaks['int8'] / 1e12:.0f} TOP/s INT8 or {device['bandwidth'] / 1e9:.0f} GB/s, "
            "pointwise operations fused, launches free.",
            f"The model card's {content['card']} images/s are {content['card'] / bound:.0%} of it, "
            f"our aim of {content['aim']} is {content['aim'] / bound:.0%}.",
        ]
    )


def _bound_by(memory_bound: float) -> str:
    if memory_bound > 0.9:
        return "memory"
    return "arithmetic" if memory_bound < 0.1 else f"memory {memory_bound:.0%}"


def end_to_end_text(content: Content) -> str:
    """A table for each figure, with a column for each number of requests in flight."""
    rows, settings = content["rows"], content["settings"]
    lines = heading(content)[:-1]
    lines.append(
        f"{settings['image']} ({settings['bytes']:,} bytes), {settings['rounds']} rounds of "
        f"{settings['turn_seconds']:g} s, one client process; columns: requests in flight"
    )
    for title, cell in LOAD_CELLS.items():
        lines += ["", *_by_in_flight(title, rows, cell)]
    lines += ["", "Resident under load, shared pages once; answers against the first system's:"]
    lines += table("", content["systems"].items(), SYSTEM_CELLS)
    lines += [f"{name}: {system['summary']}" for name, system in content["systems"].items()]
    answers, failures = (sum(row[key] for row in rows) for key in ("answers", "failures"))
    busiest = max(row["client_cpu_ms"] * row["images_per_second"] / 1000 for row in rows)
    lines.append(
        f"{answers} answers checked, {failures} missing or wrong. The client took at most "
        f"{busiest:.2f} of a core, which the servers could not use."
    )
    return "\n".join(lines)


def _by_in_flight(title: str, rows: Sequence[Content], cell: str) -> list[str]:
    counts = sorted({row["in_flight"] for row in rows})
    cells = {(series_of(row), row["in_flight"]): cell.format(**row) for row in rows}
    lines = [(f"{title:27}", *(f"{count:6}" for count in counts))]
    for name in dict.fromkeys(map(series_of, rows)):
        lines.append((name, *(cells.get((name, count), "-") for count in counts)))
    return aligned(lines)


def series_of(row: Content) -> str:
    return f"{row['system']}, {row['protocol']}"


def steps_text(content: Content) -> str:
    """A line for each repository and protocol, with the processor time of an image by process."""
    rows, settings = content["rows"], content["settings"]
    roles = sorted({role for row in rows for role, ms in row["cpu_ms"].items() if ms >= 0.005})
    lines = heading(content)
    lines.append(
        f"Served with a network that costs nothing: {settings['image']}, "
        f"{rows[0]['in_flight']} in flight, {content['machine']['cores']} cores, the client on them"
    )
    cells = {role: f"{{cpu_ms[{role}]:.2f}}" for role in roles} | STEP_CELLS
    named = [(f"{row['system'][-24:]}, {row['protocol']}", row) for row in rows]
    lines += table("CPU ms an image", named, cells)
    best = max(rows, key=lambda row: row["images_per_second"])
    cost, rate = best["server_cpu_ms"], best["images_per_second"]
    lines.append(
        f"At most {CPU_GOAL_MS:g} ms of CPU an image: {met(cost <= CPU_GOAL_MS)}. "
        f"At least {RATE_GOAL:g} images a second: {met(rate >= RATE_GOAL)}."
    )
    return "\n".join(lines)


def overhead_text(content: Content) -> str:
    found = content["overhead"]
    batches = ", ".join(f"batch {batch}: {r:.2f}" for batch, r in found["bare_by_batch"].items())
    roles = ", ".join(f"{role} {value:.1f}" for role, value in found["cpu_ms"].items() if value)
    goal = f"goal: {OVERHEAD_GOAL:.0%}, {met(found['share'] >= OVERHEAD_GOAL)}"
    lines = [
        *heading(content),
        f"bare engine in a loop                 {found['bare']:8.2f} images/s ({batches})",
        f"reachable beside the steps            {found['reachable']:8.2f}",
        f"ensemble at saturation, gRPC          {found['saturated']:8.2f}: {found['share']:.1%} "
        f"of what is reachable ({goal})",
        f"processor ms an image: {roles}",
    ]
    for name, paced in content["paced"].items():
        goal = f"goal: under {RATIO_GOAL:g}, {met(paced['ratio'] < RATIO_GOAL)}"
        lines += [
            "",
            f"{paced['rate']:.1f} images a second (80%), {name} arrivals, {paced['sent']} sent, "
            f"{paced['failed']} failed:",
            f"  p50 {paced['p50_ms']:.0f} ms, p99 {paced['p99_ms']:.0f}: "
            f"{paced['ratio']:.1f} times the median ({goal})",
            f"  an ideal server with these arrivals: p50 {paced['ideal_p50_ms']:.0f} ms, p99 "
            f"{paced['ideal_p99_ms']:.0f}: {paced['ideal_ratio']:.1f} times",
        ]
    return "\n".join(lines)


def memory_text(content: Content) -> str:
    network, stub = content["runs"]["network"], content["runs"]["stub"]
    return "\n".join(
        [
            *heading(content),
            *table("MB", content["runs"].items(), MEMORY_CELLS),
            "",
            f"Resident under load: {network['peak_mb']:.0f} MB (goal: under "
            f"{content['goal_mb']:.0f}, {met(network['peak_mb'] < content['goal_mb'])})",
            f"Over {stub['requests']} requests the second half added {stub['growth_mb']:+.1f} MB "
            f"(goal: under {GROWTH_GOAL:.0%} of the peak, {met(does_not_grow(stub))})",
        ]
    )


def does_not_grow(run: Content) -> bool:
    return bool(run["growth_mb"] < GROWTH_GOAL * run["peak_mb"])
