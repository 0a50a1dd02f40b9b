"""What must hold between what was noted and what is stored: nothing ran twice, and nothing was lost, failed, aborted
or timed out without a reason that we know.

Every function returns the violations it finds, in words.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

from tests.torture.kinds import ENDLESS, FAILURES, LIMITS
from tests.torture.story import Attempt, Story

ROUNDING = 0.1
"""Seconds by which two clocks of one machine may disagree on how long something took."""

PARTING = 2.0
"""Seconds that a parent lives on after it gave a child up, within which that must be over."""


def run_twice(story: Story) -> list[str]:
    """No attempt ran twice, and none after the one that finished."""
    begun = Counter(note.which for note in story.notes if note.word == "began")
    found = [f"{run}/{action}: attempt {n} ran {times} times" for (run, action, n), times in begun.items() if times > 1]
    for run, name, number in begun:
        action = story.action.get((run, name))
        if action is not None and action.phase == "succeeded" and number > action.attempt:
            found.append(f"{run}/{name} ({action.task}): attempt {number} ran; attempt {action.attempt} had finished")
    return found


def calls_doubled(story: Story) -> list[str]:
    """What a call of a parent had finished was found by every later attempt of the parent."""
    finished = Counter(
        (each.run, each.parent, each.task, each.call)
        for each in story.actions
        if each.phase == "succeeded" and each.parent is not None
    )
    return [
        f"{run}/{parent}: its call of {task} was finished {times} times"
        for (run, parent, task, _), times in finished.items()
        if times > 1
    ]


def computed_twice(story: Story) -> list[str]:
    """Of the calls that wait for each other one computes; all others find its result."""
    computed = Counter(each.cache_key for each in story.actions if each.cache == "populated")
    found = [f"the cached result {key} was computed {times} times" for key, times in computed.items() if times > 1]
    for each in story.actions:
        if each.cache == "hit" and (computed[each.cache_key] == 0 or (each.run, each.name, 1) in story.began):
            found.append(f"{each.run}/{each.name} ({each.task}) is a hit, and ran or has no source")
    return found


def lost_without_cause(story: Story) -> list[str]:
    """An attempt is lost with its process alone, and a process because we hurt it or what it lived on."""
    found = []
    for attempt in story.failed:
        began = story.began.get(attempt.which)
        if attempt.error["kind"] == "system" and began is not None and not story.was_hurt(began):
            found.append(f"{_name(story, attempt)} was lost, and nobody had hurt it: {_words(attempt)}")
    return found


def losses_counted(story: Story) -> list[str]:
    """Only the death of the worker itself counts; what dies with a part of the platform costs nothing."""
    possible: Counter[tuple[str, str]] = Counter()
    for attempt in story.failed:
        began = story.began.get(attempt.which)
        if attempt.error["kind"] == "system" and (began is None or began.pid in story.dead):
            possible[attempt.run, attempt.action] += 1
    return [
        f"{each.run}/{each.name} ({each.task}): {each.system_failures} losses count, of "
        f"{possible[each.run, each.name]} by its worker's own death"
        for each in story.actions
        if each.system_failures > possible[each.run, each.name]
    ]


def failures_counted(story: Story) -> list[str]:
    """An action failed as often as its own code did; what ran too long is judged by `time_limits`."""
    too_long = Counter((a.run, a.action) for a in story.failed if a.error["code"] == "MaxRuntimeExceededError")
    found = []
    for each in story.actions:
        counted = each.user_failures - too_long[each.run, each.name]
        if counted > FAILURES.get(each.task, 0) and each.error.get("code") not in _QUEUED:
            errors = [_words(a) for a in story.failed if (a.run, a.action) == (each.run, each.name)]
            errors = errors or [str(each.error.get("message", ""))]
            found.append(f"{each.run}/{each.name} ({each.task}): {counted} failures count: {errors}"[:600])
    return found


_QUEUED = ("MaxQueuedTimeExceededError",)


def aborted_unasked(story: Story) -> list[str]:
    """Aborted is what we aborted, what a parent gave up, and what was left of a parent that failed."""
    found = []
    for each in story.actions:
        parent = story.action.get((each.run, each.parent or ""))
        asked = each.task in ENDLESS or story.kinds.get(each.run) == "abort"
        left = parent is not None and parent.phase != "succeeded"
        if each.phase == "aborted" and not asked and not left:
            found.append(f"{each.run}/{each.name} ({each.task}) was aborted, and nobody asked for that: {each.message}")
    return found


def given_up_in_vain(story: Story) -> list[str]:
    """A child that its parent has cancelled ends soon, not with its parent."""
    given_up = {note.which: note for note in story.notes if note.word == "cancelled"}
    found = []
    for each in story.actions:
        parent = story.action.get((each.run, each.parent or ""))
        note = given_up.get((each.run, parent.name, parent.attempt)) if parent else None
        if each.task == "forever" and parent and note and parent.ended - note.at > PARTING:
            late = each.ended - note.at
            if late > PARTING and "ended before it" in each.message:
                found.append(f"{each.run}/{each.name} ran on for {late:.1f} s after its parent had cancelled it")
    return found


def steps_kept(story: Story) -> list[str]:
    """A recorded step has one value in all attempts, which is its own action's and no other step's."""
    values: dict[tuple[str, str, int], set[str]] = defaultdict(set)
    for note in story.notes:
        if note.word == "kept":
            place, value = note.value
            values[note.run, note.action, place].add(value)
    found = []
    for (run, action, place), kept in values.items():
        if len(kept) > 1:
            found.append(f"{run}/{action}: step {place} gave {len(kept)} values in its attempts")
        if strangers := {value.partition(":")[0] for value in kept} - {action}:
            found.append(f"{run}/{action}: step {place} got the value of {', '.join(sorted(strangers))}")
    owners = Counter((run, action, value) for (run, action, _), kept in values.items() for value in kept)
    doubled = [key for key, times in owners.items() if times > 1]
    return found + [f"{run}/{action}: two steps got the same value, {value}" for run, action, value in doubled]


def time_limits(story: Story) -> list[str]:
    """Nobody fails of a limit of time before that time is over, or of waiting when it had begun."""
    found = []
    for attempt in story.failed:
        if attempt.error["code"] == "MaxRuntimeExceededError":
            found += _ran_too_long(story, attempt)
    for each in story.actions:
        code = each.error.get("code")
        began = story.began.get((each.run, each.name, each.attempt))
        where = f"{each.run}/{each.name} ({each.task})"
        if code == "DeadlineExceededError":
            found.append(f"{where} passed a deadline that was an hour away")
        if code == "MaxQueuedTimeExceededError":
            limit = LIMITS.get(each.task, {}).get("max_queued_time", float("inf"))
            if began is not None:
                found.append(f"{where}: attempt {each.attempt} had begun, and was said to wait in the queue")
            elif each.ended - each.created < limit - ROUNDING:
                found.append(f"{where} is said to have waited {limit:g} s, after {each.ended - each.created:.2f} s")
    return found


def _ran_too_long(story: Story, attempt: Attempt) -> list[str]:
    began, done = story.began.get(attempt.which), story.done.get(attempt.which)
    task = story.action[attempt.run, attempt.action].task
    limit = LIMITS.get(task, {}).get("max_runtime", float("inf"))
    if began and done and done.at - began.at < limit - ROUNDING:
        return [
            f"{_name(story, attempt)} was done in {done.at - began.at:.2f} s, and said to run longer than {limit:g}"
        ]
    since = began.at if began else attempt.started
    if since is not None and attempt.ended - since < limit - ROUNDING:
        return [f"{_name(story, attempt)} is said to run longer than {limit:g} s, after {attempt.ended - since:.2f} s"]
    return []


def _name(story: Story, attempt: Attempt) -> str:
    task = story.action[attempt.run, attempt.action].task
    return f"{attempt.run}/{attempt.action} ({task}), attempt {attempt.number},"


def _words(attempt: Attempt) -> str:
    return f"{attempt.error['code']}: {attempt.error['message']}"[:200]


CHECKS: tuple[Callable[[Story], list[str]], ...] = (
    run_twice,
    calls_doubled,
    computed_twice,
    lost_without_cause,
    losses_counted,
    failures_counted,
    aborted_unasked,
    given_up_in_vain,
    steps_kept,
    time_limits,
)


def violations(story: Story) -> list[str]:
    return [found for check in CHECKS for found in check(story)]


def unexplained_silence(story: Story) -> int:
    """Attempts that were lost before they noted anything, of which nothing can be said."""
    return sum(a.error["kind"] == "system" and a.which not in story.began for a in story.failed)
