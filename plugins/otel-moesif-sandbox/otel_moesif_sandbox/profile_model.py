"""Models of what Moesif takes besides events: users, companies, subscriptions and actions.

Sources: apidocs ``_users-api.md``, ``_companies-api.md``, ``_subscriptions-api.md``, ``_actions-api.md``. On
one field its copies disagree: the ``status`` of a subscription was optional in an older one. It is required
here, as an exporter that sends it is right under both.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import StringConstraints, TypeAdapter

from otel_moesif_sandbox.model import AbsoluteUri, IsoTime, Strict, Uuid

Identifier = Annotated[str, StringConstraints(min_length=1)]


class Campaign(Strict):
    """``campaign`` of a user or company: where it came from."""

    utm_source: str | None = None
    utm_medium: str | None = None
    utm_campaign: str | None = None
    utm_term: str | None = None
    utm_content: str | None = None
    referrer: str | None = None
    referring_domain: str | None = None
    gclid: str | None = None


class User(Strict):
    """Profile of who calls."""

    user_id: Identifier
    company_id: str | None = None
    session_token: str | None = None
    modified_time: IsoTime | None = None
    ip_address: str | None = None
    user_agent_string: str | None = None
    campaign: Campaign | None = None
    metadata: dict[str, Any] | None = None


class Company(Strict):
    """Profile of the company for which users call."""

    company_id: Identifier
    company_domain: str | None = None
    session_token: str | None = None
    modified_time: IsoTime | None = None
    ip_address: str | None = None
    campaign: Campaign | None = None
    metadata: dict[str, Any] | None = None


class Subscription(Strict):
    """What a company has subscribed to."""

    subscription_id: Identifier
    company_id: Identifier
    status: Literal["active", "cancelled", "paused", "trialing", "pending", "draft", "future"]
    current_period_start: IsoTime | None = None
    current_period_end: IsoTime | None = None
    items: list[dict[str, Any]] | None = None
    metadata: dict[str, Any] | None = None


class ActionRequest(Strict):
    """``request`` of an action: where the user was when it was done."""

    uri: AbsoluteUri
    time: IsoTime | None = None
    ip_address: str | None = None
    user_agent_string: str | None = None


class Action(Strict):
    """Something that a user did."""

    action_name: Identifier
    request: ActionRequest
    transaction_id: Uuid | None = None
    session_token: str | None = None
    user_id: str | None = None
    company_id: str | None = None
    subscription_id: str | None = None
    metadata: dict[str, Any] | None = None


USERS: TypeAdapter[Any] = TypeAdapter(list[User])
COMPANIES: TypeAdapter[Any] = TypeAdapter(list[Company])
SUBSCRIPTIONS: TypeAdapter[Any] = TypeAdapter(list[Subscription])
ACTIONS: TypeAdapter[Any] = TypeAdapter(list[Action])
