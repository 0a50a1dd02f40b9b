"""What was printed stands in the log of its attempt: all of it, once, and nothing of another."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.torture.story import Story, Which


def violations(story: Story, logs: Path) -> list[str]:
    """`logs` is the platform's folder of runs' logs."""
    said: dict[Which, int] = {}
    for note in story.notes:
        if note.word == "said":
            said[note.which] = max(said.get(note.which, 0), note.value)
    found = []
    for which, lines in said.items():
        found += _log(which, lines, logs)
    runs = {run for run, _, _ in said}
    return found + [wrong for run in sorted(runs) for wrong in _strangers(logs / run)]


def path_of(which: Which, logs: Path) -> Path:
    run, action, attempt = which
    return logs / run / f"{action}.{attempt}.log"


def _lines(file: Path) -> list[tuple[Which, int]]:
    """The lines that tell whose they are, with their numbers; tracebacks and warnings do not."""
    found = []
    for line in file.read_text(errors="replace").splitlines():
        words = line.split()
        if words[:1] == ["torture"] and len(words) == 5:
            _, run, action, attempt, number = words
            found.append(((run, action, int(attempt)), int(number)))
    return found


def _log(which: Which, lines: int, logs: Path) -> list[str]:
    """An attempt that was killed may have printed more than it could note."""
    file = path_of(which, logs)
    name = f"{which[0]}/{file.name}"
    if not file.exists():
        return [f"{name}: there is no such log; the attempt had printed {lines} lines"]
    times = Counter(number for whose, number in _lines(file) if whose == which)
    missing = sorted(set(range(lines)) - set(times))
    doubled = sorted(number for number, count in times.items() if count > 1)
    found = [f"{name}: {len(missing)} of {lines} lines are missing: {missing[:5]}"] if missing else []
    return found + ([f"{name}: lines stand there twice: {doubled[:5]}"] if doubled else [])


def _strangers(folder: Path) -> list[str]:
    found = []
    for file in sorted(folder.glob("*.log")) if folder.exists() else []:
        others = {whose for whose, _ in _lines(file) if path_of(whose, folder.parent) != file}
        if others:
            found.append(f"{folder.name}/{file.name}: it holds lines of {sorted(others)[:3]}")
    return found
