"""The report page: one self-contained `report.html`."""
