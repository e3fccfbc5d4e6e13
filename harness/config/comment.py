"""The opening comment of a question's file: what is asked, in words."""

from __future__ import annotations

import itertools
import re
from pathlib import Path


def opening_comment(file: Path) -> str:
    """The file's first comment, as it stands there, but for what it says to editors."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return "".join(line for line in comment if not line.startswith("# yaml-language-server:"))


def question_in(comment: str) -> str:
    """The question in a file's opening comment: up to a line such as `Run: ...`, without the word `Question:`."""
    text = [line.lstrip("# ").rstrip() for line in comment.splitlines()]
    text = list(itertools.takewhile(lambda line: not re.match(r"(?!Question:)[A-Z]\w*:(\s|$)", line), text))
    question = " ".join(text).removeprefix("Question:").strip()
    return question[:1].upper() + question[1:]
