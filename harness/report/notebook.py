"""What a sweep found, for a notebook: data frames, figures, and the answer with the leaderboard as its display."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import escape

from harness.messages import closest
from harness.report import tables
from harness.report.model import Report

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from harness.report.pictures.style import Svg
    from harness.report.section import Picture


class Findings:
    """A sweep's report, to be asked from Python.

    Attributes:
        report: what was read of the sweep's folder, with every configuration, note and comparison.
    """

    def __init__(self, report: Report):
        self.report = report

    @property
    def answer(self) -> str:
        """The answer to the sweep's question, in one or a few sentences."""
        return self.report.answer

    def leaderboard(self) -> pd.DataFrame:
        """Every configuration with all its figures, one a row, confirmed ones first: `leaderboard.csv`."""
        from harness.report import frames

        return frames.leaderboard(self.report)

    def rows(self) -> pd.DataFrame:
        """Every value of every metric that counts, one a row, see `frames.rows`."""
        from harness.report import frames

        return frames.rows(self.report)

    def curves(self, metric: str) -> pd.DataFrame:
        """A metric by number of labels or by epoch, one value of one seed a row, see `frames.curves`.

        Raises:
            ValueError: no trial recorded the metric.
        """
        from harness.report import frames

        return frames.curves(self.report, metric)

    def picks(self) -> pd.DataFrame:
        """Every image that a selector picked with its file and class, one a row, see `frames.picked_images`."""
        from harness.report import frames

        return frames.picked_images(self.report)

    def figure(self, name: str) -> Figure | Svg:
        """A picture of the report, drawn anew; matrices come as SVG, which a notebook shows, too.

        Args:
            name: one of `figures`, such as `leaderboard` or `curves`.

        Raises:
            ValueError: the report has no such picture.
        """
        pictures = self._pictures()
        if name not in pictures:
            raise ValueError(f"the report of {self.report.folder} has no picture {name!r}; {closest(name, pictures)}")
        return pictures[name].draw()

    @property
    def figures(self) -> list[str]:
        """The names of the pictures that the sweep has data for: those of its files, without an ending."""
        return list(self._pictures())

    def _pictures(self) -> dict[str, Picture]:
        from harness.report.page.write import page_sections

        return {picture.stem: picture for section in page_sections(self.report) for picture in section.pictures}

    def __repr__(self) -> str:
        return f"{self.report.space['name']}: {self.answer}"

    def _repr_html_(self) -> str:
        """The answer and the leaderboard; of a search alone its best configurations."""
        import pandas as pd

        shown = tables.comparison_tables(self.report) or tables.search_tables(self.report, limit=10)
        blocks = [f"<p><b>{escape(self.report.space['name'])}</b>: {escape(self.answer)}</p>"]
        blocks += [f"<p>{escape(paragraph)}</p>" for paragraph in self.report.about]
        for title, table in ((section.title, table) for section in shown for table in section.tables):
            blocks += [f"<p>{escape(title)}</p>"] if len(shown) > 1 else []
            texts = pd.DataFrame([list(map(str, row)) for row in table.rows], columns=table.titles)
            blocks.append(texts.to_html(index=False))
        return "\n".join(blocks)
