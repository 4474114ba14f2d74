"""A chart of bars as SVG."""

from html import escape

OURS, THEIRS, TEXT, FAINT = "#c2410c", "#9aa5b1", "#1f2933", "#616e7c"
WIDTH, LABELS, NUMBERS, ROW, GAP = 580, 232, 104, 26, 34
CUT = 4  # times ours: a longer bar is cut, or the others could not be told apart


def draw(title, note, panels, ours):
    """Panels, two in a row: (title, [(name, seconds, ratio or None)]). The bar named `ours` has a colour of its own."""
    parts, top = [], 74
    for left, right in [panels[place:place + 2] + [None] * (2 - len(panels[place:place + 2])) for place in range(0, len(panels), 2)]:
        parts += panel(left, 0, top, ours)
        parts += panel(right, WIDTH, top, ours) if right else []
        top += GAP + 16 + ROW * max(len(found[1]) for found in (left, right) if found)
    height = top + 16
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH + 16} {height}" width="{2 * WIDTH + 16}" height="{height}" '
        'font-family="Helvetica, Arial, DejaVu Sans, sans-serif" font-size="13">',
        f'<rect width="100%" height="100%" fill="white"/>',
        text(16, 28, title, size=17, weight="bold"),
        text(16, 48, note, colour=FAINT),
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


def panel(found, left, top, ours):
    title, bars = found
    bars = sorted(bars, key=lambda bar: bar[1])
    mine = next((seconds for name, seconds, _ in bars if name == ours), bars[0][1])
    longest = min(bars[-1][1], CUT * mine)
    parts = [text(left + 16, top + 12, title, weight="bold")]
    for place, (name, seconds, ratio) in enumerate(bars):
        y = top + 22 + ROW * place
        mine = name == ours
        full = WIDTH - LABELS - NUMBERS - 16
        width = max(2, full * min(1, seconds / longest))
        parts += [
            text(left + LABELS + 8, y + 14, name, anchor="end", weight="bold" if mine else "normal"),
            f'<rect x="{left + LABELS + 16}" y="{y + 1}" width="{width:.1f}" height="{ROW - 8}" fill="{OURS if mine else THEIRS}"/>',
            text(left + LABELS + 22 + width, y + 14, number(seconds) + " s" + ("" if ratio is None else f"  ({ratio:.2f})"),
                 colour=TEXT if mine else FAINT, weight="bold" if mine else "normal"),
        ]
        parts += [cut(left + LABELS + width - 22, y)] if seconds > longest else []
    return parts


def text(x, y, words, size=13, weight="normal", colour=TEXT, anchor="start"):
    return f'<text x="{x:.1f}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'


def cut(x, y):
    """Two white strokes through a bar that goes on."""
    strokes = [f"M{x + 6 * place} {y + ROW - 6}l8 -{ROW - 6}" for place in range(2)]
    return f'<path d="{" ".join(strokes)}" stroke="white" stroke-width="3"/>'


def number(seconds):
    return f"{seconds:.0f}" if seconds >= 100 else f"{seconds:.3g}"
