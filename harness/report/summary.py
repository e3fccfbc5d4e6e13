"""`summary.md`: a sweep as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from harness.messages import as_markdown
from harness.report import across_tables, provenance, round_tables, tables
from harness.report.cells import Shown
from harness.report.looks import gallery
from harness.report.model import Report
from harness.report.section import Heading, Part, Picture, Section, Table

SUMMARY_SEARCH_ROWS = 20
"""How many configurations of a search are listed."""


def summary(report: Report) -> str:
    """The text of `summary.md`."""
    blocks = [
        f"# {as_markdown(report.space['name'])}",
        f"**Answer.** {_prose(report.answer)}",
        *map(_prose, report.about),
        f"**Question.** {_prose(report.space.get('description') or 'none was stated')}",
        *(f"**Note.** {_prose(note)}" for note in report.all_notes),
        *(block for section in _sections(report) for block in markdown(section)),
        "## How this was made",
        "\n".join(f"- {name}: {_prose('; '.join(said))}" for name, said in provenance.facts(report)),
    ]
    return "\n\n".join(blocks) + "\n"


def _sections(report: Report) -> list[Section]:
    return [
        *tables.comparison_tables(report),
        *across_tables.across_sections(report),
        *tables.tables_of_other_classifiers(report),
        *(round_tables.round_sections(report.rounds) if report.rounds else tables.curve_tables(report)),
        *gallery.look_sections(report),
        *tables.search_tables(report, SUMMARY_SEARCH_ROWS),
        *tables.failed(report),
    ]


def markdown(section: Section) -> list[str]:
    """A section as blocks of Markdown; a picture is a link to its file, HTML of a section's own is left out."""
    blocks = [
        f"## {as_markdown(section.title)}",
        _prose(section.caption),
        *(block for part in section.parts for block in _part(part)),
    ]
    return [block for block in blocks if block]


def _part(part: Part) -> Iterable[str]:
    match part:
        case Heading():
            yield f"### {as_markdown(part.text)}"
        case Picture():
            alt = part.alt.replace("[", "(").replace("]", ")")  # a link's own
            yield f"![{as_markdown(alt)}]({part.stem}.svg)"
            yield _prose(part.caption)
        case Table() if part.rows:
            lines = [list(map(as_markdown, part.titles)), ["---"] * len(part.titles)]
            lines += [[_cell(cell.show()) for cell in row] for row in part.rows]
            yield "\n".join("| " + " | ".join(line) + " |" for line in lines)
            yield "\n".join(f"- {_prose(note)}" for note in part.notes)
        case str() if not hasattr(part, "__html__"):
            yield _prose(part)


def _prose(text: str) -> str:
    return as_markdown(text, code=True)


def _cell(cell: Shown) -> str:
    text = as_markdown(str(cell))
    return f"**{text}**" if cell.tone == "strong" else text
