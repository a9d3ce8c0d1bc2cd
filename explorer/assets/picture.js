// An SVG drawing whose [data-id] groups can be chosen by click or keyboard, with zoom and pan, and taken away as a file.
// It comes finished from Python, in a wide layout and perhaps a narrow one; this adds what needs a browser: the theme,
// what a screen reader is told, and the layout that the card has room for. The app and a notebook each add how they call it.
const LARGEST = 1.4; // pixels a unit that a drawing takes by itself
const SHARE = 0.2; // of the window's height, which it takes by itself

const put = (element, name, value) => { // what stays as it is, is no change for who watches
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
};

function picture({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".picture");
  const view = root.querySelector(".view");
  root.zoom ??= 0; // 0: as large as is legible and fits; "fit": all of it; else pixels a unit
  let svg, items, selected, current, width, height;

  const draw = (layout) => {
    const themed = Object.entries(data.theme).reduce(
      (text, [colour, name]) => text.replaceAll(`"${colour}"`, `"var(${name}, ${colour})"`), layout);
    const drawing = document.importNode(new DOMParser().parseFromString(themed, "image/svg+xml").documentElement, true);
    const title = drawing.querySelector(":scope > title");
    drawing.setAttribute("role", "group");
    drawing.setAttribute("aria-label", title.textContent);
    title.remove(); // else it is said wherever the pointer rests
    for (const item of drawing.querySelectorAll("[data-id]")) {
      const kind = item.dataset.switch;
      item.setAttribute("role", kind ? "switch" : "button");
      item.setAttribute("tabindex", "-1");
      item.setAttribute("aria-label", item.querySelector("title").textContent.replaceAll("\n", ", "));
      if (kind) item.setAttribute("aria-checked", kind !== "off");
      else item.setAttribute("aria-pressed", "chosen" in item.dataset);
      if (kind === "fixed") item.setAttribute("aria-disabled", "true");
    }
    view.replaceChildren(drawing);
    root.drawn = layout;
  };
  const adopt = () => {
    svg = view.querySelector("svg");
    items = [...svg.querySelectorAll("[data-id]")];
    selected = items.find((item) => "chosen" in item.dataset);
    const before = items.find((item) => item.dataset.id === root.at);
    stop((root.hadFocus ? before : selected) ?? selected ?? before ?? items[0]);
    svg.onclick = (event) => {
      const item = event.target.closest("[data-id]");
      if (item && !root.dragged) { stop(item); choose(item); }
    };
    svg.onkeydown = typed;
    if (root.hadFocus) { current?.focus({ preventScroll: true }); root.hadFocus = false; }
  };

  // Runs stand after each other as words do: as many on a line as there is room for, their axes at one height.
  const flow = (room) => {
    const full = Number(svg.getAttribute("height"));
    const lines = [];
    width = 0;
    for (const run of svg.querySelectorAll("[data-run]")) {
      const [left, wide, spare] = run.dataset.run.split(" ").map(Number);
      let line = lines.at(-1);
      if (!line || line.wide + wide > room) lines.push((line = { wide: 0, spare: full, runs: [] }));
      line.runs.push([run, line.wide - left]);
      line.wide += wide;
      line.spare = Math.min(line.spare, spare);
      width = Math.max(width, line.wide);
    }
    height = 0;
    for (const { spare, runs } of lines) {
      for (const [run, across] of runs) {
        put(run, "transform", `translate(${across} ${height - spare})`);
        for (const low of run.querySelectorAll("[data-low]")) put(low, "transform", `translate(0 ${-spare})`);
      }
      height += full - 2 * spare;
    }
    put(svg, "viewBox", `0 0 ${width} ${height}`);
    svg.dataset.flows = "yes"; // else it stands on one line as it came
  };

  const size = (layout) => /width="(\d+)" height="(\d+)"/.exec(layout).slice(1).map(Number);
  const show = () => {
    const room = view.clientWidth;
    if (!room) return; // not on the page yet, or in a closed tab
    const wide = (layout) => size(layout)[0] * data.legible > room;
    const layout = data.layouts.find((layout) => !wide(layout)) ?? data.layouts.at(-1);
    if (root.drawn !== layout) {
      root.hadFocus ||= view.contains(root.getRootNode().activeElement);
      draw(layout);
      svg = null;
    }
    if (!svg) adopt();
    [width, height] = size(layout);
    if (svg.querySelector("[data-run]") && (wide(layout) || svg.dataset.flows)) flow(wide(layout) ? room / data.legible : Infinity);
    const whole = Math.min(room / width, LARGEST);
    const own = Math.max(data.legible, Math.min(whole, Math.max(1, SHARE * innerHeight / height)));
    const scale = root.zoom === "fit" ? Math.min(whole, 0.7 * innerHeight / height) : root.zoom || own;
    put(svg, "style", `width: ${width * scale}px; height: ${height * scale}px`);
    if (!items.length) put(view, "tabindex", width * scale > room ? "0" : "-1"); // else no key scrolls it
  };
  const zoomBy = (factor) => {
    const now = svg.getBoundingClientRect().width / width;
    const middle = (view.scrollLeft + view.clientWidth / 2) / (now * width);
    root.zoom = Math.min(4, Math.max(0.25, now * factor));
    show();
    view.scrollLeft = middle * root.zoom * width - view.clientWidth / 2;
  };
  const fit = () => { root.zoom = "fit"; show(); };

  // Roving tabindex: the drawing is one stop, arrows move within it.
  const stop = (item) => {
    if (!item) return;
    items.forEach((g) => g.setAttribute("tabindex", "-1"));
    item.setAttribute("tabindex", "0");
    current = item;
    root.at = item.dataset.id;
  };
  const choose = (item) => {
    item.animate([{ opacity: 0.4, offset: 0 }], 400); // seen at once, before Python answers
    root.hadFocus = true;
    setTriggerValue("chosen", item.dataset.id);
  };
  const typed = (event) => {
    const at = items.indexOf(current);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (to !== undefined) { stop(items[Math.min(items.length - 1, Math.max(0, to))]); current.focus(); }
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

  // A file is the drawing as it came: on one line, in the light theme, in a font that every reader has.
  const save = (blob, kind) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${data.name}.${kind}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  };
  const files = {
    svg: (source) => save(new Blob([source], { type: "image/svg+xml" }), "svg"),
    png: async (source) => {
      const image = new Image();
      image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(source)}`;
      await image.decode();
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [2 * image.width, 2 * image.height];
      const pen = canvas.getContext("2d");
      pen.fillStyle = "#fff";
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => save(blob, "png"));
    },
  };
  for (const button of root.querySelectorAll(".file")) button.onclick = () => files[button.dataset.kind](root.drawn);

  root.watch?.disconnect();
  root.watch = new ResizeObserver(show);
  root.watch.observe(view);
  show();
  if (selected && root.scrolledTo !== selected.dataset.id) {
    const box = selected.getBoundingClientRect(), frame = view.getBoundingClientRect();
    if (box.right > frame.right || box.left < frame.left) view.scrollLeft += box.left - frame.left - frame.width / 2;
    root.scrolledTo = selected.dataset.id;
  }
}
