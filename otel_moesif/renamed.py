"""Where what waited goes when its pipeline, or its processor, has another name by now.

Slots of the journal say whose rows they hold, by name, and a name is the user's to change. What waits is
acknowledged calls: it goes to the one whose new name it must be, if there is no doubt, and to nobody else's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from otel_moesif.pipeline import Pipeline


class Renamed:
    """Tells which of today's names stands for one of an earlier run.

    A pipeline that had rows of its own in the earlier run is no other one's new name: else calls for one
    backend would go to another's, when a pipeline is taken away.

    Args:
        pipelines: Today's.
        pipelines_then: Ids of pipelines of which the earlier run has left something.
    """

    def __init__(self, pipelines: Sequence[Pipeline], pipelines_then: Iterable[str] = ()) -> None:
        self._pipelines = {pipeline.id: pipeline for pipeline in pipelines}
        self._new = [self._pipelines[id_] for id_ in self._pipelines.keys() - {*pipelines_then}]

    def slot(self, slot: str) -> str | None:
        """The slot of a processor by its name of today.

        It is in the same pipeline or, if there is no such pipeline any more, in a new one of the same signal;
        it keeps rows; and it is the only one of its type.

        Args:
            slot: ``pipeline,processor,name``, as in `Pipeline`.

        Returns:
            None if there is none, or doubt.
        """
        pipeline, _, rest = slot.partition(",")
        processor, comma, name = rest.partition(",")
        if not comma:
            return None
        found = [
            f"{candidate.id},{id_},{name}"
            for candidate in self._candidates(pipeline)
            for id_ in candidate.holders
            if _type(id_) == _type(processor)
        ]
        return found[0] if len(found) == 1 else None

    def destination(self, name: str) -> str:
        """The name of a destination (pipelines' ids, joined by comma) with those that are today's."""
        candidates = [(id_, self._candidates(id_)) for id_ in name.split(",")]
        return ",".join(sorted(found[0].id if len(found) == 1 else id_ for id_, found in candidates))

    def _candidates(self, id_: str) -> list[Pipeline]:
        """The pipeline of that id; else those that may be it."""
        if same := self._pipelines.get(id_):
            return [same]
        return [pipeline for pipeline in self._new if pipeline.signal.value == _type(id_)]


def _type(id_: str) -> str:
    return id_.partition("/")[0]
