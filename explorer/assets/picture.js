// An SVG drawing whose [data-id] groups can be chosen by click or keyboard, with zoom and pan.
// The drawing comes finished from Python; this adds what needs a browser.
export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".picture");
  const view = root.querySelector(".view");
  if (root.dataset.svg !== data.svg) {
    root.dataset.svg = data.svg;
    const parsed = new DOMParser().parseFromString(data.svg, "image/svg+xml");
    const focused = view.querySelector("[tabindex='0']")?.dataset.id;
    view.replaceChildren(document.importNode(parsed.documentElement, true));
    root.zoom ??= 0; // 0: fitted to the card
    root.focusedId = focused;
  }
  const svg = view.querySelector("svg");
  const width = svg.viewBox.baseVal.width;
  const items = [...svg.querySelectorAll("[data-id]")];

  const show = () => {
    // Fitted it stays legible: rather scroll than shrink.
    svg.style.width = root.zoom ? `${width * root.zoom}px` : `clamp(${width * 0.78}px, 100%, ${width * 1.15}px)`;
  };
  const zoomBy = (factor) => {
    const now = svg.getBoundingClientRect().width / width;
    const middle = (view.scrollLeft + view.clientWidth / 2) / (now * width);
    root.zoom = Math.min(4, Math.max(0.25, now * factor));
    show();
    view.scrollLeft = middle * root.zoom * width - view.clientWidth / 2;
  };
  const fit = () => { root.zoom = 0; show(); };

  // Roving tabindex: the drawing is one stop, arrows move within it.
  const selected = items.find((g) => g.getAttribute("aria-pressed") === "true");
  const before = items.find((g) => g.dataset.id === root.focusedId);
  let current = (root.hadFocus ? before : selected) ?? selected ?? before ?? items[0];
  const focus = (item) => {
    if (!item) return;
    items.forEach((g) => g.setAttribute("tabindex", "-1"));
    item.setAttribute("tabindex", "0");
    current = item;
  };
  focus(current);
  const choose = (item) => {
    item.animate([{ opacity: 0.4, offset: 0 }], 400); // seen at once, before Python answers
    root.hadFocus = true;
    root.focusedId = item.dataset.id;
    setTriggerValue("chosen", item.dataset.id);
  };

  svg.onclick = (event) => {
    const item = event.target.closest("[data-id]");
    if (item && !root.dragged) { focus(item); choose(item); }
  };
  svg.onkeydown = (event) => {
    const at = items.indexOf(current);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (to !== undefined) { focus(items[Math.min(items.length - 1, Math.max(0, to))]); current.focus(); }
    else if (event.key === "Enter" || event.key === " ") choose(current);
    else if (event.key === "+") zoomBy(1.25);
    else if (event.key === "-") zoomBy(0.8);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  };
  root.querySelector(".in").onclick = () => zoomBy(1.25);
  root.querySelector(".out").onclick = () => zoomBy(0.8);
  root.querySelector(".fit").onclick = fit;

  // Drag to pan; a drag is no click.
  view.onpointerdown = (event) => {
    if (event.pointerType !== "mouse") return; // touch scrolls by itself
    const start = { x: event.clientX, y: event.clientY, left: view.scrollLeft, top: view.scrollTop };
    root.dragged = false;
    view.onpointermove = (move) => {
      if (Math.hypot(move.clientX - start.x, move.clientY - start.y) > 4) root.dragged = true;
      view.scrollLeft = start.left - (move.clientX - start.x);
      view.scrollTop = start.top - (move.clientY - start.y);
    };
    view.onpointerup = view.onpointerleave = () => { view.onpointermove = null; };
  };
  view.onwheel = (event) => {
    if (!event.ctrlKey) return; // plain scrolling belongs to the page
    event.preventDefault();
    zoomBy(event.deltaY < 0 ? 1.1 : 0.9);
  };

  show();
  if (root.hadFocus) { current?.focus({ preventScroll: true }); root.hadFocus = false; }
  if (selected && root.scrolledTo !== selected.dataset.id) {
    const box = selected.getBoundingClientRect(), frame = view.getBoundingClientRect();
    if (box.right > frame.right || box.left < frame.left) view.scrollLeft += box.left - frame.left - frame.width / 2;
    root.scrolledTo = selected.dataset.id;
  }
}
