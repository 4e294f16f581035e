"""The report as a page, a chart, and in the formats that other programs read; each a pure function of the report."""
