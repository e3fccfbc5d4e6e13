"""Looks: what a report shows of encoders, classes and picks; each is a picture with the words and numbers to read it.

`gallery` is the table of contents. A look reads the report's model, never the disk: the portrait that `trial.portray`
made of an encoder and `records.portrait` holds, and the other files of `records.trial_files`. It is drawn with
`report.pictures` and stands on the page in the section of `report.sections.looks`.
"""
