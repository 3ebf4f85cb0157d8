"""Actions: what a user did, for each event that meets a condition (apidocs ``_actions-api.md``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl
import polars_hash as plh

from otel_moesif.errors import ConfigError, Problem
from otel_moesif.events import iso
from otel_moesif.exporters.moesif.metadata import Metadata, known
from otel_moesif.exporters.moesif.settings import ActionSettings
from otel_moesif.json_shape import JsonShape
from otel_moesif.processors.properties import with_properties
from otel_moesif.processors.sql import Sql

# Never change it: by what comes of it Moesif knows an action again.
_NAMESPACE = "6f74656c-2d6d-6f65-7369-662f61637473"  # b"otel-moesif/acts"
# As with events: without an address Moesif may take that of whoever delivers, which would be ours.
_NO_ADDRESS = "0.0.0.0"  # noqa: S104 - not bound to
_URI = "action uri"  # a column
_IDENTITIES = ("user_id", "company_id", "session_token")


class Actions:
    """Makes an action of each event that meets a condition.

    An action is made when its event was delivered and goes its own way from there (`SideQueue`), which is
    memory only: beyond the queue's bound, and when the process ends while Moesif takes no actions, it is
    lost. It may come twice, after a batch that was delivered twice; its id is the same then.

    Args:
        settings: Conditions, and what else is in an action.
        uri: From events the full URI of their requests, as the event itself has it.
    """

    def __init__(self, settings: Sequence[ActionSettings], uri: Callable[[pl.DataFrame], pl.Expr]) -> None:
        self._uri = uri
        self._problems: list[Problem] = []
        self._actions: list[_Action] = []
        for number, action in enumerate(settings):
            path = f"actions[{number}]"
            metadata = Metadata(action.metadata, f"{path}::metadata")
            self._problems += metadata.problems()
            try:
                where = Sql(action.where, f"{path}::where", boolean=True)
            except ConfigError as error:
                self._problems += error.problems
            else:
                self._actions.append(_Action(action.name, where, metadata, _shape(action.name, metadata)))
        self._properties = {name for action in self._actions for name in action.where.properties}

    def problems(self) -> list[Problem]:
        """What is wrong with the options, all of it."""
        return list(self._problems)

    def made(self, frame: pl.DataFrame) -> list[str]:
        """The actions of a batch that was delivered.

        Where several conditions with one name are met, the first of them makes the action.

        Args:
            frame: Events; text columns ``user_id``, ``company_id`` and ``session_token`` say whose they are.

        Returns:
            JSON objects.
        """
        if not self._actions or not frame.height:
            return []
        view = with_properties(frame, self._properties)
        done: dict[str, pl.Series] = {}
        texts: list[str] = []
        for action in self._actions:
            holds = action.where.holds(view)
            if (before := done.get(action.name)) is not None:
                holds &= ~before
            done[action.name] = holds if before is None else holds | before
            if holds.any():
                rows = frame.filter(holds)
                rows = action.metadata.added_to(rows, self._uri(rows).alias(_URI))
                texts += action.shape.texts(rows).to_list()
        return texts


@dataclass(frozen=True)
class _Action:
    """One of the options, made ready."""

    name: str
    where: Sql
    metadata: Metadata
    shape: JsonShape


def _shape(name: str, metadata: Metadata) -> JsonShape:
    return JsonShape(
        {
            "action_name": pl.lit(name),
            "transaction_id": _transaction_id(name),
            **{identity: known(pl.col(identity)) for identity in _IDENTITIES},
            "request": {
                "time": iso("requestTimestamp"),
                "uri": pl.col(_URI),
                "ip_address": known(pl.col("userIp")).fill_null(_NO_ADDRESS),
                "user_agent_string": pl.coalesce(
                    known(pl.col("userAgentHeader")), known(pl.col("userAgent"))
                ),
            },
            "metadata": metadata.shape(),
        }
    )


def _transaction_id(name: str) -> pl.Expr:
    """UUIDv5 of the call and the action's name: the same on every retry and replay."""
    call = pl.col("transactionId").str.to_lowercase()
    named: pl.Expr = plh.UUIDHashNameSpace(pl.concat_str(call, pl.lit(f":{name}"))).uuid5(_NAMESPACE)
    return named
