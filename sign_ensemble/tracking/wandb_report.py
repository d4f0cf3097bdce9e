"""A W&B Report: hyperparameters, best trials, rejection, the ensemble's tables."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sign_ensemble.core.errors import UserError
from sign_ensemble.tracking.tracker import first_line

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import Report

LOSS = "nll"
PLOTS = (
    "risk-coverage", "accepted", "reliability", "confusion", "signers", "member-disagreement",
)  # fmt: skip


def report(
    entity: str,
    project: str,
    group: str | None,
    params: Mapping[str, bool],
    sets: Sequence[str],
) -> Report:
    """The report, not yet saved; calls no server.

    ``group`` takes only the runs of one run folder, ``params`` are hyperparameters, and whether
    each is logarithmic, ``sets`` the OOD sets whose share of accepted images is shown.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb_workspaces.reports.v2 as wr

    # Without entity and project of their own, run sets are the report's project's.
    of_group = f" and Metric('Group') == {group!r}" if group else ""
    trials = wr.Runset(
        name="trials",
        filters=f"Metric('JobType') in ['trial', 'train']{of_group}",
        order=[wr.OrderBy(wr.SummaryMetric(LOSS), ascending=True)],
        pinned_columns=["run:displayName", *[f"summary:{n}" for n in (LOSS, "worst_accuracy")]],
        visible_columns=[f"config:{name}.value" for name in params],
    )
    evaluations = wr.Runset(
        name="evaluations", filters=f"Metric('JobType') == 'evaluate'{of_group}"
    )
    columns = [
        wr.ParallelCoordinatesPlotColumn(metric=wr.Config(name), log=logarithmic or None)
        for name, logarithmic in params.items()
    ]
    columns.append(wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(LOSS)))
    wide = wr.Layout(x=0, y=0, w=24, h=9)
    search = [
        wr.ParallelCoordinatesPlot(columns=columns, layout=wide),
        wr.ParameterImportancePlot(with_respect_to=LOSS, layout=wr.Layout(x=0, y=9, w=12, h=9)),
        wr.ScatterPlot(
            title="Loss of each trial",
            x=wr.Config("number"),
            y=wr.SummaryMetric(LOSS),
            running_ymin=True,
            layout=wr.Layout(x=12, y=9, w=12, h=9),
        ),
    ]
    rejection = [
        wr.MediaBrowser(media_keys=[f"plots/{name}" for name in PLOTS], layout=wide),
        wr.BarPlot(
            title="Known signs: accuracy, coverage",
            metrics=[wr.SummaryMetric(f"known.{name}") for name in ("accuracy", "coverage")],
            layout=wr.Layout(x=0, y=9, w=12, h=8),
        ),
        wr.BarPlot(
            title="OOD images accepted",
            metrics=[wr.SummaryMetric(f"sets.{name}.accepted") for name in sets],
            layout=wr.Layout(x=12, y=9, w=12, h=8),
        ),
    ]
    tables = [wr.WeavePanelSummaryTable(table_name=name) for name in ("sets", "gallery", "trials")]
    return wr.Report(
        entity=entity,
        project=project,
        title=f"sign_ensemble: {group or project}",
        description="Search, ensemble and rejection, evaluated on held-out images.",
        width="fluid",
        blocks=[
            wr.TableOfContents(),
            wr.H1(text="The search"),
            wr.P(
                text="The loss is measured on held-out folds of the training images and averaged "
                "over folds. The table below the plots lists the trials, the best first."
            ),
            wr.PanelGrid(runsets=[trials], panels=search),
            wr.H1(text="Rejection"),
            wr.P(text="Only the evaluation reads the test images and the OOD sets."),
            wr.PanelGrid(runsets=[evaluations], panels=rejection),
            wr.H1(text="The ensemble"),
            wr.PanelGrid(runsets=[evaluations], panels=tables),
        ],
    )


def specification(made: Report) -> dict[str, Any]:
    """What W&B stores of a report."""
    spec = made._to_model().spec  # wandb-workspaces has no public way
    return {
        "entity": made.entity,
        "project": made.project,
        "title": made.title,
        "description": made.description,
        "spec": json.loads(spec.model_dump_json(by_alias=True, exclude_none=True)),
    }


def save(made: Report) -> str:
    """Save it with W&B; its address.

    Raises:
        UserError: no key, no server, or one that refuses.
    """
    import wandb

    try:
        if not wandb.login(prompt=False, verify=True):
            raise UserError("W&B: no key, see `wandb login`; --dry-run needs none")
        return str(made.save().url)
    except UserError:
        raise
    except Exception as fault:  # any: a lost server shows itself in many types
        raise UserError(f"W&B: the report was not saved ({first_line(fault)})") from None
