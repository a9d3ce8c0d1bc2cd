"""Claims as cards: statement, verdict, numbers, and the ways to the line, the picture and the experiment."""

from __future__ import annotations

from collections import Counter

import streamlit as st

from resnet.errors import ExplainedError

from ..lessons.claims import CLAIMS, EXPERIMENT, FAILS, HOLDS, LINE, PICTURE, WHEN, Claim, Finding
from . import session
from .cached import shared
from .headline import section
from .tabs import segments

BADGES = {
    HOLDS: "green-badge[:material/check: Holds]",
    WHEN: "orange-badge[:material/rule: Holds when]",
    FAILS: "red-badge[:material/close: Does not hold]",
}
VERDICTS = {"All": "", "Holds": HOLDS, "Holds when": WHEN, "Does not hold": FAILS}
"""What can be shown: all claims, or those of one verdict."""
LINK_ICONS = {LINE: ":material/code:", PICTURE: ":material/visibility:", EXPERIMENT: ":material/science:"}
GRID = (
    "display:grid;grid-template-columns:repeat(auto-fill,minmax(min(13.5rem,42%),1fr));gap:0.6rem 1.5rem;"
    "margin:0 !important;padding:0"
)


@shared("Computing …")
def cached_finding(key: str) -> Finding:
    return next(claim for claim in CLAIMS if claim.key == key).check()


def cards() -> None:
    """Every claim in the order of the post's arguments, or those of one verdict, and how many hold."""
    summary = st.empty()
    wanted = VERDICTS[segments("Verdict", list(VERDICTS), "verdict")]
    findings = [card(number, claim, wanted) for number, claim in enumerate(CLAIMS, start=1)]
    counts = Counter(finding.verdict for finding in findings if finding)
    endings = {HOLDS: "as they stand", WHEN: "under a condition", FAILS: ""}
    parts = [
        f"**{counts[verdict]}** {'do not hold' if verdict == FAILS else 'hold'} {ending}".strip()
        for verdict, ending in endings.items()
        if counts[verdict]
    ]
    if unknown := findings.count(None):
        parts.append(f"**{unknown}** cannot be checked")
    summary.markdown(f"Of {len(CLAIMS)} claims, {', '.join(parts)}.")


def card(number: int, claim: Claim, wanted: str) -> Finding | None:
    """What was found, shown where its verdict is `wanted` or all are; None, and a sentence, where what the claim is checked
    with cannot be had.
    """
    finding, problem = None, ""
    try:
        finding = cached_finding(claim.key)
    except ExplainedError as error:
        problem = str(error)
    if wanted and finding and finding.verdict != wanted:
        return finding
    with st.container(border=True, key=f"claim {claim.key}"):
        section(f"{number}. {claim.statement}")
        if finding:
            evidence_list(finding)
        else:
            st.error(session.escape_markdown(problem), icon=":material/error:")
        with st.container(horizontal=True, gap="small"):
            for link in claim.links:
                query = session.query_to(link.view)
                st.page_link(link.page.file, label=link.label, icon=LINK_ICONS[link.kind], query_params=query)
    return finding


def evidence_list(finding: Finding) -> None:
    """The verdict, the numbers, and what they say."""
    st.markdown(f":{BADGES[finding.verdict]} {finding.condition}".strip())
    items = "".join(
        f'<div><dt style="opacity:0.65;font-size:0.85rem">{one.label}</dt>'
        f'<dd style="margin:0;font-variant-numeric:tabular-nums">{one.text}</dd></div>'
        for one in finding.evidence
    )
    st.html(f'<dl style="{GRID}">{items}</dl>')
    st.markdown(finding.words)
