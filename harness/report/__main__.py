"""`python -m harness.report FOLDER ...`: prints what a sweep found and writes it into its folder; of several it also
writes one page that sets them side by side. With `--serve` it shows sweeps in a browser while they run.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from itertools import zip_longest
from pathlib import Path

from harness.garbage import nothing_collected
from harness.messages import printable
from harness.progress import forgive_output, until_reader_leaves

FIGURE_KINDS = ("pdf", "svg", "png")
"""Of pictures for papers; kept here, for help must not wait until numpy is there."""

PORT = 8770


@until_reader_leaves
def main(arguments: list[str] | None = None, prog: str = "python -m harness.report") -> int:
    """The command line, as `prog`; returns the exit status."""
    parser = argparse.ArgumentParser(prog=prog, description="What a sweep found.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="such as results/runs/augment")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="of the page that compares several sweeps; default: compare.html"
    )
    parser.add_argument(
        "--figures", choices=FIGURE_KINDS, help="also write every picture for a paper, into FOLDER/figures"
    )
    parser.add_argument(
        "--serve", action="store_true", help="show a sweep, or all of a results folder, in a browser while they run"
    )
    parser.add_argument(
        "--port", type=int, metavar="N", help=f"of --serve on this machine; default: {PORT}; 0: any free one"
    )
    options = parser.parse_args(arguments)
    forgive_output()
    if options.serve:
        return _serve(options)

    with nothing_collected():
        from harness.report import versus
        from harness.report.page.write import write_figures
        from harness.report.terminal import print_report
        from harness.report.write import write_report

    try:
        if options.port is not None:
            raise ValueError(f"--port {options.port} is of --serve; add it, or leave both out")
        output = _output(options.output, len(options.folders))
        reports = [write_report(folder) for folder in options.folders]
        if output:
            versus.write_comparison(reports, output)
        figures = [write_figures(report, options.figures) for report in reports] if options.figures else []
    except (ValueError, OSError) as error:
        print(printable(str(error)), file=sys.stderr)
        return 2
    for report, drawn in zip_longest(reports, figures):
        print_report(report)
        if drawn:
            print(printable(f"figures: {drawn}"), flush=True)
    if output:
        print(printable(f"compared: {output}"))
    return 0


def _serve(options: argparse.Namespace) -> int:
    """Shows sweeps until Ctrl-C."""
    from harness.report.serve import open_server

    try:
        if len(options.folders) > 1 or options.output or options.figures:
            raise ValueError("--serve takes one folder, of a sweep or of several, and neither --output nor --figures")
        server = open_server(options.folders[0], PORT if options.port is None else options.port)
    except (ValueError, OSError) as error:
        print(printable(str(error)), file=sys.stderr)
        return 2
    print(f"http://127.0.0.1:{server.server_address[1]}/  (Ctrl-C ends it)", flush=True)
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


def _output(given: Path | None, folders: int) -> Path | None:
    """Where several sweeps are compared; None for one."""
    if folders == 1:
        if given:
            raise ValueError(f"--output {given} is for several folders; the page of one is its report.html")
        return None
    output = given or Path("compare.html")
    if output.suffix != ".html":
        raise ValueError(f"--output {output} does not end in .html")
    if not output.parent.is_dir():
        raise ValueError(f"--output {output}: there is no folder {output.parent}")
    return output


if __name__ == "__main__":
    sys.exit(main())
