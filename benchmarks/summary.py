"""How good is it in ten lines, and which bars does it miss?

Makes results/summary.md, the table of README, from results/protocol_m.json and measures nothing.
The bars were set before the figures were measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from protocol_m import ONE
from shared.results import Results, markdown, parser_of, stored

NAME = "summary"
NEAR = "wrong-gesture"
ORDINARY = "The ordinary model has no rule and answers everything. "
DIGIT_1 = ", one in six of which, the digit 1, is the hand of Z"
LOWEST, HIGHEST, LEAST = 0.92, 0.98, 0.88  # coverage of four of five signers, and of the fifth


@dataclass(frozen=True)
class Line:
    """A figure, one value per unseen signer, and the bars of its mean and its worst value.

    Args:
        title: What was measured.
        values: One per signer.
        higher: Whether higher is better.
        of_mean: Bar of the mean; None if none was set.
        of_worst: Bar of the worst value; None if none was set.
        ordinary: The same of one ordinary model; empty if it has none.
    """

    title: str
    values: list[float]
    higher: bool
    of_mean: float | None = None
    of_worst: float | None = None
    ordinary: tuple[float, ...] = ()

    def cells(self) -> list[str]:
        """As a row of the table."""
        mean = float(np.mean(self.values))
        worst = min(self.values) if self.higher else max(self.values)
        sign = "≥" if self.higher else "≤"

        def bar(value: float, limit: float | None) -> str:
            if limit is None:
                return "–"
            met = value >= limit if self.higher else value <= limit
            return f"{sign} {limit:g} {'met' if met else '**missed**'}"

        ordinary = f"{np.mean(self.ordinary):.3f}" if self.ordinary else "–"
        return [
            self.title, ordinary, f"{mean:.3f}", bar(mean, self.of_mean),
            f"{worst:.3f}", bar(worst, self.of_worst),
        ]  # fmt: skip


def lines(results: Results) -> list[Line]:
    """The figures in the order of the table."""
    each = list(results["signers"].values())
    ours = [signer["shipped"]["ensemble"] for signer in each]
    plain = [signer["ordinary"][ONE] for signer in each]
    far = [name for name in ours[0]["sets"] if name != NEAR]

    def known(figure: str) -> list[float]:
        return [one["known"][figure] for one in ours]

    def near(figure: str) -> list[float]:
        return [one["sets"][NEAR][figure] for one in ours]

    def ordinary(figure: str) -> tuple[float, ...]:
        return tuple(one["sets"][NEAR][figure] for one in plain)

    def of_far(figure: str) -> list[float]:
        return [max(one["sets"][name][figure] for name in far) for one in ours]

    return [
        Line(
            "accuracy on signs", known("accuracy"), True, 0.985, 0.95,
            tuple(one["accuracy"] for one in plain),
        ),
        Line(
            "errors among the answered", known("selective_risk"), False, 0.01, None,
            tuple(1 - one["accuracy"] for one in plain),
        ),
        Line("wrong gestures: AUROC", near("auroc"), True, 0.995, 0.985, ordinary("auroc")),
        Line("wrong gestures: FPR95", near("fpr95"), False, 0.02, None, ordinary("fpr95")),
        Line("wrong gestures answered", near("accepted"), False, 0.08, None, (1.0,)),
        Line(
            "wrong gestures answered with confidence ≥ 0.90", near("overconfident"), False, 0.01,
            None, ordinary("overconfident"),
        ),
        Line("signs answered with confidence ≥ 0.90", known("confident"), True, 0.80),
        Line("far sets answered, the worst set", of_far("accepted"), False, 0.01),
        Line("far sets: FPR95, the worst set", of_far("fpr95"), False, 0.01),
    ]  # fmt: skip


def coverage_row(results: Results) -> list[str]:
    """Coverage against its target, which is a bar in both directions."""
    each = list(results["signers"].values())
    values = [signer["shipped"]["ensemble"]["known"]["coverage"] for signer in each]
    target = each[0]["settings"]["rejection"]["target_coverage"]
    inside = sum(LOWEST <= value <= HIGHEST for value in values)
    met = inside >= len(values) - 1 and min(values) >= LEAST
    return [
        "coverage: signs answered", "1.000", f"{np.mean(values):.3f}", f"target {target:.2f}",
        f"{min(values):.3f}",
        f"{LOWEST} to {HIGHEST} for all but one: {inside} of {len(values)}, "
        + ("met" if met else "**missed**"),
    ]  # fmt: skip


def table(results: Results) -> str:
    """The table, from protocol M's results."""
    header = ["", "one ordinary model, mean", "mean", "bar", "worst", "bar"]
    first, *others = [line.cells() for line in lines(results)]
    signers = results["signers"]
    compared = all(signer["ordinary"] for signer in signers.values())
    (protocol,) = {signer["protocol"] for signer in signers.values()}
    signs, gestures = (
        sum(signer["shipped"]["n"][name] for signer in signers.values()) for name in ("known", NEAR)
    )
    return (
        markdown(header, [first, coverage_row(results), *others])
        + f"\nProtocol {protocol}: {len(signers)} people, each left out in turn (n = "
        f"{len(signers)} runs, one seed); {signs} signs and {gestures} wrong gestures"
        f"{DIGIT_1 if protocol == 'M' else ''}. {ORDINARY * compared}FPR95 is the share accepted "
        f"where the threshold keeps 95 % of the signer's signs. {results['hardware']}; made by "
        "`python benchmarks/summary.py`."
        "\n"
    )


def main() -> None:
    """Write the table."""
    arguments = parser_of(__doc__).parse_args()
    text = table(stored(arguments, "protocol_m"))
    (arguments.results / f"{NAME}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
