"""The sections of a report, each a function from facts to a section."""
