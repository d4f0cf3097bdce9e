"""The model card of a run: Markdown with a YAML head, laid out as Hugging Face's.

Every number comes from a file of the run. The text is ``model_card.md``; the head's
``model-index`` is what ``huggingface_hub`` reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from sign_ensemble import __version__
from sign_ensemble.core.atomic_files import read_json
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.printable_text import printable, storable
from sign_ensemble.core.run_folder import RunFolder, load_config
from sign_ensemble.core.whose_signs import whose_signs
from sign_ensemble.data import manifest
from sign_ensemble.learning.member import load
from sign_ensemble.rejection.p_in_distribution import EVERY_IMAGE_A_SIGN
from sign_ensemble.rejection.selective_risk_control import CONFIDENCE

KNOWN = {  # figures on known signs, as the card calls them
    "accuracy": "accuracy, rejected signs included",
    "coverage": "signs answered",
    "selective_risk": "errors among the answered",
    "confident": "signs answered with confidence ≥ 0.90",
    "ece": "expected calibration error of the probability",
    "aurc": "AURC",
    "augrc": "AUGRC",
    "nll": "negative log-likelihood, nats",
}
OF_SETS = {"accepted": "answered", "auroc": "AUROC", "fpr95": "FPR95"}
WORDS_OF_KINDS = {
    ("pixels",): "one way: by pixels",
    ("pixels", "landmarks"): "two ways: by pixels and by the landmarks of the hand",
}


@dataclass(frozen=True)
class Exported:
    """What the card of an exported folder says besides."""

    format: str  # ``onnx`` or ``torch``
    self_test: str = ""  # its outcome, in words
    examples: tuple[tuple[str, str], ...] = ()  # file and label of each example image
    int8: bool = False  # whether weights are quantised


def card_of(run: RunFolder, exported: Exported | None = None) -> str:
    """The card of a finished run, or of what was exported from it.

    Raises:
        UserError: the run is not finished, or a file is damaged or of another version.
    """
    facts = facts_of(run)
    about = exported or Exported("")
    text = _environment().get_template("model_card.md").render(
        **facts, **asdict(about), where="." if exported else str(run.path)
    )  # fmt: skip
    head = yaml.safe_dump(metadata(facts, about), sort_keys=False, allow_unicode=True, width=100)
    return storable(f"---\n{head}---\n\n{text}")


def facts_of(run: RunFolder) -> dict[str, Any]:
    """What the card says of a run, by the names that its text uses."""
    data, rule = load_config(run).data, read_json(run.rule)
    members = read_json(run.index)["members"]
    kinds = tuple(dict.fromkeys(member["kind"] for member in members))
    facts: dict[str, Any] = {
        "name": run.path.name,
        "version": __version__,
        "data": data,
        "hand": data.crop == "hand",
        "signers": data.signers,
        "whose": whose_signs(data.signers),
        "labels": load(run.members / members[0]["file"]).card.labels,
        "members": members,
        "words_of_kinds": WORDS_OF_KINDS[kinds],
        "rule": rule,
        "every_image_a_sign": EVERY_IMAGE_A_SIGN,
        "risk_confidence": CONFIDENCE,
        "hands": read_json(run.hands) if run.hands.is_file() else None,
        "metrics": read_metrics(run),
        "counts": None,
        "people": {},
    }
    if run.manifest.is_file():
        listed = manifest.read(run.manifest)
        facts["counts"] = listed.counts()
        facts["people"] = {s: listed.signers(s) for s in ("train", "extra", "test")}
    if facts["metrics"]:
        facts["known"] = [(KNOWN[name], facts["metrics"]["known"][name]) for name in KNOWN]
    return facts


def read_metrics(run: RunFolder) -> Mapping[str, Any] | None:
    """metrics.json; None where the run was not evaluated.

    Raises:
        UserError: it is damaged, or of another version.
    """
    if not run.metrics.is_file():
        return None
    metrics = read_json(run.metrics)
    if not isinstance(metrics, dict) or "evaluations" not in metrics:
        raise UserError(f"{run.metrics}: not an evaluation of this version; evaluate the run again")
    return metrics


def metadata(facts: Mapping[str, Any], about: Exported) -> dict[str, Any]:
    """The YAML head. Licence: the parts have several, which NOTICE lists."""
    tags = ["image-classification", "sign-language", "out-of-distribution-detection"]
    head: dict[str, Any] = {
        "library_name": "sign_ensemble",
        "pipeline_tag": "image-classification",
        "tags": [*tags, "conformal-prediction", *([about.format] if about.format else [])],
        "license": "other",
        "license_name": "several-see-notice",
        "license_link": "NOTICE",
    }
    if facts["metrics"]:
        head["model-index"] = [{"name": facts["name"], "results": results_of(facts)}]
    return head


def results_of(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures as ``model-index`` has them: on known signs, then on each OOD set. One that has
    no value, as of answered signs where none was answered, is left out.
    """
    metrics = facts["metrics"]
    sets = {"known-signs": (f"signs {facts['whose'].headline}", metrics["known"], KNOWN)}
    for name, figures in metrics["sets"].items():
        sets[name] = (f"{name} ({figures['kind']} out-of-distribution)", figures, OF_SETS)
    return [
        {
            "task": {"type": "image-classification"},
            "dataset": {"type": name, "name": title, "split": "test"},
            "metrics": [
                {"type": key, "name": f"{words}, {interval(figures[key])}, n = {figures[key]['n']}",
                 "value": round(figures[key]["value"], 4)}
                for key, words in names.items()
                if figures[key]["value"] is not None
            ],
        }
        for name, (title, figures, names) in sets.items()
    ]  # fmt: skip


def number(value: float | None) -> str:
    """A figure with three decimals; a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"


def interval(figure: Mapping[str, Any]) -> str:
    """The bounds of a figure; a dash where there are none."""
    low, high = figure["low"], figure["high"]
    return "–" if low is None else f"{low:.3f}–{high:.3f}"


def with_interval(figure: Mapping[str, Any] | None) -> str:
    """A figure and its bounds, as in ``0.981 (0.965–0.992)``."""
    if figure is None or figure["value"] is None:
        return "–"
    return number(figure["value"]) + f" ({interval(figure)})" * (figure["low"] is not None)


def plain(text: str) -> str:
    """A user's text as Markdown that shows it, in a table too."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", printable(text))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sign_ensemble", "serving"),
        autoescape=False,  # Markdown; users' texts go through ``plain``
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": number, "interval": interval, "figure": with_interval, "text": plain,
        "code": lambda name: f"`{name}`",
    }  # fmt: skip
    return environment
