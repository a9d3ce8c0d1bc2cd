// Finished HTML or SVG from Python, whose links open in this session; a new tab opens them as any link.
export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".markup");
  if (root.dataset.html !== data.html) {
    root.dataset.html = data.html;
    root.replaceChildren(...new DOMParser().parseFromString(data.html, "text/html").body.childNodes);
  }
  root.onclick = (event) => {
    const link = event.target.closest("a[data-id]");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    link.animate([{ opacity: 0.4, offset: 0 }], 400); // seen at once, before Python answers
    setTriggerValue("chosen", link.dataset.id);
  };
}
