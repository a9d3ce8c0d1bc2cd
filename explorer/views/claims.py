"""Claims as cards: statement, verdict, numbers, and where to see them."""

from __future__ import annotations

from collections import Counter

import streamlit as st

from ..claims import CLAIMS, FAILS, HOLDS, WHEN, Claim, Finding

ICONS = {HOLDS: ":material/check:", WHEN: ":material/rule:", FAILS: ":material/close:"}
GRID = (
    "display:grid;grid-template-columns:repeat(auto-fill,minmax(min(13.5rem,42%),1fr));gap:0.6rem 1.5rem;"
    "margin:0 !important;padding:0"
)


@st.cache_resource(max_entries=len(CLAIMS), show_spinner="Computing …")
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
    summary.markdown(f"Of {len(CLAIMS)} claims, {' and '.join(parts)}.")


def card(number: int, claim: Claim) -> None:
    with st.container(border=True, key=f"claim {claim.key}"):
        st.markdown(f"**{number}. {claim.statement}**")
        finding = found(claim.key)
        verdict = finding.verdict.capitalize()
        st.markdown(f":primary-badge[{ICONS[finding.verdict]} {verdict}] {finding.condition}".strip())
        items = "".join(
            f'<div><dt style="opacity:0.65;font-size:0.85rem">{evidence.label}</dt>'
            f'<dd style="margin:0;font-variant-numeric:tabular-nums">{evidence.text}</dd></div>'
            for evidence in finding.evidence
        )
        st.html(f'<dl style="{GRID}">{items}</dl>')
        st.markdown(finding.words)
        st.page_link(
            f"../pages/{claim.page}.py",
            label=claim.see,
            icon=":material/arrow_forward:",
            query_params=claim.view.to_query(),
        )
