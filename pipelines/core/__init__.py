"""What every pipeline shares. It knows no domain; rooms import from those below them, never from above.

From the ground up: `contract`, `data`, `reading`, `evaluation`, `tasks` and `report`, `training`, `serving`, `store`,
`review`, `commands`.
"""
