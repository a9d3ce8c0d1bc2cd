// Pictures over each other on one grid of pixels; a click or an arrow key chooses a pixel.
// Layers and outlines come from Python in pixels of the grid; rows run down, columns to the right.
const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

const place = ([x, y, width, height]) => ({ x, y, width, height });

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".pixels");
  const [x, y, width, height] = data.view;
  root.firstChild ?? root.append(element("svg", { tabindex: 0, role: "img" }));
  const svg = root.firstChild;
  svg.setAttribute("viewBox", data.view.join(" "));
  svg.setAttribute("aria-label", data.label);

  const clip = element("clipPath", { id: data.clip });
  clip.append(element("rect", place(data.view)));
  const pictures = element("g", { "clip-path": `url(#${data.clip})` });
  pictures.append(element("rect", { ...place(data.view), class: "beyond" }));
  for (const { id, url, box, opacity } of data.layers) {
    pictures.append(element("image", { ...place(box), href: url, opacity, "data-id": id, preserveAspectRatio: "none" }));
  }
  const outlines = data.outlines.flatMap(({ id, box, dashed }) =>
    ["halo", "line"].map((kind) => {
      const classes = `outline ${kind}${dashed ? " dashed" : ""}`;
      return element("rect", { ...place(box), class: classes, ...(kind === "line" && { "data-id": id }) });
    }));
  svg.replaceChildren(clip, pictures, ...outlines);

  const within = (value, first, count) => Math.min(first + count - 1, Math.max(first, value));
  const inside = (row, column) => [within(row, y, height), within(column, x, width)];
  const choose = (row, column) => setTriggerValue("chosen", inside(row, column));
  const pixel = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [Math.floor(at.y), Math.floor(at.x)];
  };
  svg.classList.toggle("drag", data.drag);
  if (data.drag) {
    // The outlines move at once; Python answers for the last place alone, however many lie between.
    let at = data.at;
    const move = (to) => {
      at = inside(...to);
      const by = `translate(${at[1] - data.at[1]} ${at[0] - data.at[0]})`;
      for (const outline of outlines) outline.setAttribute("transform", by);
    };
    svg.onclick = null;
    svg.onpointerdown = (event) => {
      svg.setPointerCapture(event.pointerId);
      move(pixel(event));
      svg.onpointermove = (moved) => move(pixel(moved));
      svg.onpointerup = () => { svg.onpointermove = svg.onpointerup = null; choose(...at); };
      svg.onpointercancel = () => { svg.onpointermove = svg.onpointerup = null; move(data.at); };
    };
    svg.onkeydown = (event) => {
      const step = STEPS[event.key];
      if (!step) return;
      event.preventDefault();
      move(step.map((direction, axis) => at[axis] + direction * data.step));
      choose(...at);
    };
    return;
  }
  svg.onclick = (event) => choose(...pixel(event));
  svg.onkeydown = (event) => {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    choose(...step.map((direction, axis) => data.at[axis] + direction * data.step));
  };
}
