"""Pictures: how anything is drawn. `style` is common to all and makes them SVG, `rounds` draws curves and their like,
`matrix` writes matrices. What a picture says, and whether there is one, `report.looks` and `report.sections` know.
"""
