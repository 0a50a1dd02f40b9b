"""The links of an action, which its task declares by `links=`: pages elsewhere, such as that of an experiment.

Each link is asked for its address when the action is submitted. What is not known there is a word in double braces,
which the platform replaces (`{{.actionName}}`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from flyte import rules, wire
from flyte._declare.options import Link
from flyte._logging import system_logger


@dataclass(frozen=True, slots=True)
class Submission:
    """What is known of an action when it is submitted."""

    run_name: str = "{{.runName}}"
    project: str = "{{.project}}"
    domain: str = "{{.domain}}"
    parent_action_name: str = "{{.parentActionName}}"
    action_name: str = "{{.actionName}}"
    context: Mapping[str, str] = field(default_factory=dict)


def links_of(task: str, links: Iterable[Link], known: Submission) -> list[wire.ActionLink]:
    """The links of an action of `task`. One that has no address for it is left out, and the log says why."""
    found = (_link_of(task, link, known) for link in links)
    return [link for link in found if link is not None]


def _link_of(task: str, link: Link, known: Submission) -> wire.ActionLink | None:
    try:
        uri = link.get_link(
            run_name=known.run_name,
            project=known.project,
            domain=known.domain,
            context=dict(known.context),
            parent_action_name=known.parent_action_name,
            action_name=known.action_name,
            pod_name="{{.podName}}",
        )
    except Exception as error:  # noqa: BLE001 - a stranger's code, and an action can do without the link
        system_logger.warning(f"the link {link.name!r} of {task} is left out: {type(error).__name__}: {error}")
        return None
    if not isinstance(uri, str) or rules.LINK_URI.problem(uri) is not None:
        system_logger.info(f"the link {link.name!r} of {task} is left out: its address is {uri!r}")
        return None
    icon = getattr(link, "icon_uri", None)
    return wire.ActionLink(
        name=link.name, uri=uri, icon=icon if icon and rules.LINK_URI.problem(icon) is None else None
    )
