"""Contact sheets of the built-in signers: docs/letters.jpg and docs/ood.jpg.

    python benchmarks/sheets.py

To be looked at after every change of poses or renderer: is each letter still readable?
"""

from __future__ import annotations

from io import BytesIO

from PIL import Image, ImageDraw
from shared.results import ROOT

from sign_ensemble.synthetic.picture_set import LABELS, Picture, Recipe, rendered

RECIPE = Recipe(seed=0, spread=1.0, width=320, height=240)
OOD = {"wrong-gesture": 15, "no-hand": 10, "two-hands": 5, "cropped": 10}  # set: pictures


def sheet(pictures: list[Picture], columns: int, width: int, height: int) -> Image.Image:
    """The pictures in rows, their names in a corner."""
    rows = -(-len(pictures) // columns)
    image = Image.new("RGB", (columns * width, rows * height), "white")
    draw = ImageDraw.Draw(image)
    for n, (picture, content) in enumerate(zip(pictures, rendered(pictures, RECIPE), strict=True)):
        left, top = (n % columns) * width, (n // columns) * height
        image.paste(Image.open(BytesIO(content)).resize((width, height)), (left, top))
        draw.text((left + 5, top + 4), picture.name, fill="red")
    return image


def main() -> None:
    """Write both."""
    letters = [Picture("sign", label, signer, 1) for label in LABELS for signer in (1, 2, 3)]
    sheet(letters, 6, 180, 135).save(ROOT / "docs" / "letters.jpg", quality=88)
    ood = [Picture("ood", name, n % 5 + 1, n + 1) for name, k in OOD.items() for n in range(k)]
    sheet(ood, 5, 200, 150).save(ROOT / "docs" / "ood.jpg", quality=88)


if __name__ == "__main__":
    main()
