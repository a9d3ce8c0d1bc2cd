"""Visual constants: one colour a stage, the same in diagrams, charts and tables.

Every colour carries white text at 4.5:1 or better, on a light page and on a dark one.
"""

STAGES = ("#2a6fd0", "#17835f", "#b8660f", "#7c4dc4", "#b83a6c", "#2b7a91")
NETWORKS = ("#55729b", "#c2552d", "#128a86", "#96770c", "#a3479d", "#567f3a")
"""Of networks beside each other: none of the stages', so that a bar is not taken for one."""
PATTERNS = ("", "/", "x", "-", ".", "+")
"""What bars of these networks are hatched with, so that the colour is not their only sign."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
"""Of points that belong together, in the order of their colours."""
STEM = "#697180"
HEAD = "#545b68"
ACCENT = STAGES[0]


def colour(group: str) -> str:
    """The colour of "stem", "stage 1", …, "head"."""
    if group.startswith("stage "):
        return STAGES[int(group[6:]) - 1]
    return STEM if group == "stem" else HEAD
