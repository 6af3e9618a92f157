"""Pictures without cells that are drawn and not photographed: text, charts, flags, tables, vector
shapes, maps.

They have straight edges at round places, which is what a search for a grid takes for one.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from sources import Source, rng_of

WORDS = "the of sprite tile map run grid sword and potion shield for level door key hero".split()
KINDS = ("text", "chart", "flag", "table", "shapes", "curves", "map", "interface")
# Smooth edges: drawn larger, and shrunk.
FINE = 3


def drawing(rng: np.random.Generator, kind: str, width: int, height: int) -> Image.Image:
    """One picture of a kind, at its own size."""
    page = Image.new("RGB", (FINE * width, FINE * height), tuple(int(v) for v in rng.choice([250, 255, 240, 30]) * np.ones(3)))
    dark = page.getpixel((0, 0)) == (30, 30, 30)
    ink = (230, 230, 230) if dark else (20, 20, 24)
    pen = ImageDraw.Draw(page)

    def tone() -> tuple[int, ...]:
        return tuple(int(v) for v in rng.integers(20, 235, 3))

    size = FINE * int(rng.integers(10, 26))
    font = ImageFont.load_default(size)

    def words(count: int) -> str:
        return " ".join(rng.choice(WORDS, count))

    if kind == "text":
        for top in range(size, page.height - size, int(size * rng.uniform(1.2, 1.6))):
            pen.text((size, top), words(int(page.width / size / 2.6)), ink, font)
    elif kind == "chart":
        count = int(rng.integers(4, 14))
        for i in range(6):
            y = page.height * (i + 1) // 8
            pen.line([(0, y), (page.width, y)], tone(), FINE)
        for i in range(count):
            left = page.width * (i + 1) // (count + 2)
            bar = page.width // (count + 2) * 2 // 3
            pen.rectangle([left, page.height * 7 // 8 - int(rng.integers(page.height // 10, page.height * 3 // 4)),
                           left + bar, page.height * 7 // 8], tone())  # fmt: skip
        pen.text((size, size // 2), words(4), ink, font)
    elif kind == "flag":
        stripes = int(rng.integers(2, 8))
        for i in range(stripes):
            box = [0, page.height * i // stripes, page.width, page.height * (i + 1) // stripes]
            pen.rectangle(box, tone())
        radius = page.height // 4
        middle = (page.width // 2, page.height // 2)
        pen.ellipse([middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius], tone())
    elif kind == "table":
        columns, rows = (int(v) for v in rng.integers(3, 14, 2))
        for i in range(rows + 1):
            pen.line([(0, page.height * i // rows), (page.width, page.height * i // rows)], ink, FINE)
        for i in range(columns + 1):
            pen.line([(page.width * i // columns, 0), (page.width * i // columns, page.height)], ink, FINE)
        for row in range(rows):
            for column in range(columns):
                at = (page.width * column // columns + size // 2, page.height * row // rows + size // 4)
                pen.text(at, str(rng.integers(1000)), ink, font)
    elif kind == "shapes":
        for _ in range(int(rng.integers(5, 30))):
            x, y = (int(rng.integers(0, v)) for v in page.size)
            w, h = (int(v) for v in rng.integers(10, page.width // 3, 2))
            box, fill, shape = [x, y, x + w, y + h], tone(), rng.integers(3)
            if shape == 2:
                pen.rounded_rectangle(box, w // 8, fill)
            else:
                (pen.ellipse if shape == 0 else pen.rectangle)(box, fill)
    elif kind == "curves":
        for _ in range(int(rng.integers(2, 7))):
            x = np.linspace(0, page.width, 200)
            y = page.height * (0.5 + 0.4 * np.sin(x / page.width * rng.uniform(2, 20) + rng.uniform(0, 6)))
            pen.line([(float(a), float(b)) for a, b in zip(x, y, strict=True)], tone(), FINE * int(rng.integers(1, 5)))
        pen.line([(0, page.height // 2), (page.width, page.height // 2)], ink, FINE)
    elif kind == "map":
        for _ in range(40):
            points = [(int(rng.integers(0, page.width)), int(rng.integers(0, page.height)))]
            points += [(points[0][0] + int(a), points[0][1] + int(b)) for a, b in rng.integers(-page.width // 6, page.width // 6, (5, 2))]
            pen.polygon(points, tone())
    else:
        for _ in range(int(rng.integers(4, 12))):
            top = FINE * int(rng.integers(0, height))
            left = FINE * int(rng.integers(0, width // 2))
            box = [left, top, left + FINE * int(rng.integers(60, 200)), top + FINE * int(rng.integers(20, 50))]
            pen.rounded_rectangle(box, FINE * 4, tone(), ink, FINE)
            pen.text((left + size // 2, top + size // 4), words(2), ink, font)
    return page.resize((width, height), Image.Resampling.BOX)


def drawings(count: int, seed: int) -> list[Source]:
    """`count` pictures, all kinds in turn; every third went through a lossy file or to another size."""
    made = []
    for i in range(count):
        rng = rng_of("drawing", seed, i)
        kind = KINDS[i % len(KINDS)]
        width, height = (int(v) for v in rng.integers(200, 900, 2))
        page = drawing(rng, kind, width, height)
        made.append(Source(f"{i:03}_{kind}_{width}x{height}", np.array(page)))
    return made
