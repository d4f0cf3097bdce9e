"""Contact sheets of the built-in signers: docs/letters.jpg and docs/strange.jpg.

    python benchmarks/sheets.py

To be looked at after every change of poses or renderer: is each letter still readable?
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw

from sign_ensemble.synthetic.picture_set import LABELS, Picture, Recipe, rendered

DOCS = Path(__file__).parent.parent / "docs"
RECIPE = Recipe(seed=0, spread=1.0, width=320, height=240)
STRANGE = {"wrong-gesture": 15, "no-hand": 10, "two-hands": 5, "cropped": 10}


def sheet(pictures: list[Picture], columns: int, width: int, height: int) -> Image.Image:
    """The pictures in rows, their names in a corner."""
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGB", (columns * width, rows * height), "white")
    draw = ImageDraw.Draw(whole)
    for n, (picture, content) in enumerate(zip(pictures, rendered(pictures, RECIPE), strict=True)):
        place = (n % columns) * width, (n // columns) * height
        whole.paste(Image.open(BytesIO(content)).resize((width, height)), place)
        draw.text((place[0] + 5, place[1] + 4), picture.name, fill="red")
    return whole


def main() -> None:
    """Write both."""
    letters = [Picture("sign", label, signer, 1) for label in LABELS for signer in (1, 2, 3)]
    sheet(letters, 6, 180, 135).save(DOCS / "letters.jpg", quality=88)
    strange = [
        Picture("strange", name, n % 5 + 1, n + 1)
        for name, count in STRANGE.items()
        for n in range(count)
    ]
    sheet(strange, 5, 200, 150).save(DOCS / "strange.jpg", quality=88)


if __name__ == "__main__":
    main()
