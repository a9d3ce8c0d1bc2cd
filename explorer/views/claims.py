"""Claims as cards: statement, verdict, numbers, and the ways to the line, the picture and the experiment."""

from __future__ import annotations

from collections import Counter

import streamlit as st

from ..claims import CLAIMS, EXPERIMENT, FAILS, HOLDS, LINE, PICTURE, WHEN, Claim, Finding
from .cached import shared

BADGES = {
    HOLDS: "green-badge[:material/check: Holds]",
    WHEN: "orange-badge[:material/rule: Holds when]",
    FAILS: "red-badge[:material/close: Does not hold]",
}
WAYS = {LINE: ":material/code:", PICTURE: ":material/visibility:", EXPERIMENT: ":material/science:"}
GRID = (
    "display:grid;grid-template-columns:repeat(auto-fill,minmax(min(13.5rem,42%),1fr));gap:0.6rem 1.5rem;"
    "margin:0 !important;padding:0"
)


@shared("Computing …")
def found(key: str) -> Finding:
    return next(claim for claim in CLAIMS if claim.key == key).check()


def cards() -> None:
    """Every claim in the order of the post's arguments, and how many hold."""
    summary = st.empty()
    for number, claim in enumerate(CLAIMS, start=1):
        card(number, claim)
    counts = Counter(found(claim.key).verdict for claim in CLAIMS)
    endings = {HOLDS: "as they stand", WHEN: "under a condition", FAILS: ""}
    parts = [
        f"**{counts[verdict]}** {'do not hold' if verdict == FAILS else 'hold'} {ending}".strip()
        for verdict, ending in endings.items()
        if counts[verdict]
    ]
    summary.markdown(f"Of {len(CLAIMS)} claims, {', '.join(parts)}.")


def card(number: int, claim: Claim) -> None:
    with st.container(border=True, key=f"claim {claim.key}"):
        st.markdown(f"**{number}. {claim.statement}**")
        finding = found(claim.key)
        st.markdown(f":{BADGES[finding.verdict]} {finding.condition}".strip())
        items = "".join(
            f'<div><dt style="opacity:0.65;font-size:0.85rem">{evidence.label}</dt>'
            f'<dd style="margin:0;font-variant-numeric:tabular-nums">{evidence.text}</dd></div>'
            for evidence in finding.evidence
        )
        st.html(f'<dl style="{GRID}">{items}</dl>')
        st.markdown(finding.words)
        with st.container(horizontal=True, gap="small"):
            for link in claim.links:
                st.page_link(
                    f"../pages/{link.page}.py", label=link.label, icon=WAYS[link.kind],
                    query_params=link.view.to_query(),
                )  # fmt: skip
