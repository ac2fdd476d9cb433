"""Make OpenLineage's events of facts.

https://openlineage.io/docs/spec/run-cycle: one START and one of COMPLETE, FAIL and ABORT
for each write.
"""

from __future__ import annotations

from datetime import UTC, datetime

import attrs
from openlineage.client.event_v2 import (
    InputDataset,
    Job,
    OutputDataset,
    Run,
    RunEvent,
    RunState,
)
from openlineage.client.facet_v2 import (
    DatasetFacet,
    OutputDatasetFacet,
    RunFacet,
    dataset_version_dataset,
    error_message_run,
    job_type_job,
    output_statistics_output_dataset,
    schema_dataset,
)

from seeknal_openlineage import __version__
from seeknal_openlineage.facts import Outcome, Write

#: Which program makes the events, as the specification wants it: a URI.
PRODUCER = f"https://pypi.org/project/seeknal-openlineage/{__version__}"


@attrs.define
class SeeknalRunFacet(RunFacet):
    """What OpenLineage has no facet for; the names are those of its JSON."""

    environment: str
    production: bool
    project: str
    commandRun: str
    operation: str
    node: str
    target: str
    mode: str
    connection: str
    connectionType: str
    rowsAfter: int | None = None


def run_event(write: Write, outcome: Outcome | None) -> RunEvent:
    """Return the event of a write that starts, or has ended."""
    at = write.started_at if outcome is None else datetime.now(UTC)
    return RunEvent(
        eventTime=at.isoformat(),
        producer=PRODUCER,
        eventType=RunState[outcome.state if outcome else "START"],
        run=Run(runId=write.run_id, facets=_run_facets(write, outcome)),
        job=Job(
            # One namespace for each environment: dev's lineage is not production's.
            namespace=f"{write.project}.{write.environment}",
            name=_job_name(write),
            facets={
                "jobType": job_type_job.JobTypeJobFacet(
                    processingType="BATCH",
                    integration="SEEKNAL",
                    jobType="NODE",
                    producer=PRODUCER,
                )
            },
        ),
        inputs=[InputDataset(one.namespace, one.name) for one in write.inputs],
        outputs=[_output(write, outcome)],
    )


def _job_name(write: Write) -> str:
    """Name the job: the node, and the target as it is written in the project.

    A node with two targets is two jobs, for their outputs and endings differ.
    """
    node, _, target = write.key.partition(" > ")
    return f"{node}/{target}" if target else node


def _run_facets(write: Write, outcome: Outcome | None) -> dict[str, RunFacet]:
    facets: dict[str, RunFacet] = {
        "seeknal": SeeknalRunFacet(
            environment=write.environment,
            production=write.production,
            project=write.project,
            commandRun=write.command_run,
            operation=write.operation,
            node=write.node,
            target=write.target,
            mode=write.mode,
            connection=write.connection,
            connectionType=write.connection_type,
            rowsAfter=outcome.rows_after if outcome else None,
            producer=PRODUCER,
        )
    }
    if outcome and outcome.error:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
            message=outcome.error, programmingLanguage="PYTHON", producer=PRODUCER
        )
    return facets


def _output(write: Write, outcome: Outcome | None) -> OutputDataset:
    facets: dict[str, DatasetFacet] = {}
    statistics: dict[str, OutputDatasetFacet] = {}
    if write.columns:
        facets["schema"] = schema_dataset.SchemaDatasetFacet(
            fields=[
                schema_dataset.SchemaDatasetFacetFields(name=name, type=type)
                for name, type in write.columns
            ],
            producer=PRODUCER,
        )
    if outcome and outcome.version:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(
            datasetVersion=outcome.version, producer=PRODUCER
        )
    if outcome and outcome.rows is not None:
        statistics["outputStatistics"] = (
            output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                rowCount=outcome.rows, producer=PRODUCER
            )
        )
    return OutputDataset(
        write.output.namespace, write.output.name, facets=facets, outputFacets=statistics
    )
