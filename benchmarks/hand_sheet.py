"""Pictures to look at: crops and points on built-in hands under all conditions, docs/hands.jpg.

python -m sign_ensemble.synthesize --out runs/sheet --signers 3 --images-per-label 1
python benchmarks/hand_sheet.py runs/sheet/signs
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from shared.results import ROOT

from sign_ensemble.core.config import DataConfig
from sign_ensemble.data.hand_views import look
from sign_ensemble.data.images import read_image
from sign_ensemble.data.picture_conditions import CONDITIONS
from sign_ensemble.data.square_pictures import fit_square
from sign_ensemble.pipeline.condition_trial import PLAIN, Taken

SIDE, COLUMNS, SHOWN = 112, 10, 40  # pixels of a picture; pictures in a row; pictures


def main() -> None:
    """Draw the pictures with their points, each above its crop."""
    files = sorted(Path(sys.argv[1]).rglob("*.jpg"))
    conditions = (PLAIN, *CONDITIONS)
    cells = []
    for i, file in enumerate(files[:: max(1, len(files) // SHOWN)][:SHOWN]):
        data = DataConfig()
        picture = read_image(file, data)[None]
        picture = Taken.of(picture, [str(i)]).under(conditions[i % len(conditions)])
        views = look(picture, data)
        drawn = picture[0].copy()
        for x, y in views.hands.points_N42[0].reshape(-1, 2) * views.hands.found_N[0]:
            cv2.circle(drawn, (int(x), int(y)), 6, (0, 200, 80), -1)
        pair = [fit_square(drawn, SIDE, "pad"), fit_square(views.crops_NHW3[0], SIDE, "pad")]
        cells.append(np.concatenate(pair, 0))
    rows = [np.concatenate(cells[i : i + COLUMNS], 1) for i in range(0, len(cells), COLUMNS)]
    Image.fromarray(np.concatenate(rows, 0)).save(ROOT / "docs" / "hands.jpg", quality=85)


if __name__ == "__main__":
    main()
