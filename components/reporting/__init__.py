"""The parts of the report: measurements, facts, figures and the HTML page."""
