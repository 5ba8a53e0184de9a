"""Medians of the windows, as a table and as what is written to the results file."""

from statistics import median


def summary(figures, floor=None):
    """One value per column; `floor` is the summary of the floor in the same run."""
    windows = figures["windows"]

    def middle(key, of=lambda value: value):
        values = [of(window[key]) for window in windows if window.get(key) is not None]
        values = [value for value in values if value is not None]
        return median(values) if values else None

    row = {
        "gateway": figures["gateway"],
        "complete": min(window["complete"] for window in windows),
        "lost": sum(window["lost_reads"] for window in windows),
        "lost at end": figures["reads_answered"] - figures["reads_arrived"],
        "twice": sum(window["duplicate_reads"] for window in windows),
        "wrong": figures["values_wrong"],
        "cpu s/M": middle("cpu_s_per_million"),
        "x floor": None,
        "cpu %": middle("cpu", lambda cpu: 100 * cpu / windows[0]["seconds"]),
        "peak MB": figures["peak_kb"] / 1024,
        "age p50 ms": middle("age_ms", lambda age: age["p50"]),
        "age p99 ms": middle("age_ms", lambda age: age["p99"]),
        "B/sample": middle("bytes_per_sample"),
        "disk B/s": middle("write_bytes", lambda count: count / windows[0]["seconds"]),
        "first ms": figures["first_row_ms"],
    }
    if "line_used" in windows[0]:
        row["line %"] = 100 * middle("line_used")
        row["short gaps"] = figures["short_gaps"]
    elif "rows_per_s" in windows[0]:
        row["rows/s"] = middle("rows_per_s")
        row["cpu us/row"] = middle("cpu_us_per_row")
    else:
        row["on time"] = middle("on_time")
    if floor and floor["cpu s/M"] and row["cpu s/M"]:
        row["x floor"] = row["cpu s/M"] / floor["cpu s/M"]
    return row


DIGITS = {"complete": 4, "on time": 3, "cpu s/M": 3, "x floor": 1, "cpu %": 2, "disk B/s": 0, "rows/s": 0, "line %": 1}


def table(rows):
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns] + [[cell(key, row.get(key)) for key in columns] for row in rows]
    widths = [max(len(line[n]) for line in cells) for n in range(len(columns))]
    lines = ["| " + " | ".join(text.rjust(width) for text, width in zip(line, widths)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|")
    return "\n".join(lines)


def cell(key, value):
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.{DIGITS.get(key, 1)}f}"
    return str(value)
