// Takes away the figure that stands right before it, on white: Plotly draws it as several SVGs on top of each other, and what
// is three-dimensional by WebGL below them.
const SVG = "http://www.w3.org/2000/svg";
// What Streamlit gives the charts of one theme for text and grid, it gives those of the other for grid and text.
const INK = { "rgb(230, 234, 241)": "rgb(49, 51, 63)", "rgb(49, 51, 63)": "rgb(230, 234, 241)" };
const rgb = (hex) => `rgb(${[1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)).join(", ")})`;
const LETTERS = [49, 51, 63], GRID = [230, 234, 241]; // of the light theme

// A scene as WebGL draws it, of twice its size and clear around it. For the picture its letters are dark.
const pictured = (scene) => {
  const { axesOptions: axes, glplot } = scene; // which WebGL follows whenever it draws
  const { tickColor, labelColor, gridColor } = axes;
  const [letters, grid] = [LETTERS, GRID].map((colour) => Array(3).fill([...colour.map((value) => value / 255), 1]));
  Object.assign(axes, { tickColor: letters, labelColor: letters, gridColor: grid });
  const picture = scene.toImage("png");
  Object.assign(axes, { tickColor, labelColor, gridColor });
  glplot.redraw();
  return picture;
};

export default function ({ data, parentElement }) {
  const host = parentElement.getRootNode().host ?? parentElement;
  const drawn = () => {
    const plot = host.closest("[data-testid=stElementContainer]").previousElementSibling.querySelector(".js-plotly-plot");
    const layers = [...plot.querySelectorAll("svg.main-svg")];
    const [width, height] = ["width", "height"].map((name) => layers[0].getAttribute(name));
    const whole = document.createElementNS(SVG, "svg");
    const add = (kind, text, attributes = {}) => {
      const element = whole.appendChild(document.createElementNS(SVG, kind));
      element.textContent = text;
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    };
    for (const [name, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` })) whole.setAttribute(name, value);
    add("title", data.title);
    add("metadata", data.says);
    add("rect", "", { width: "100%", height: "100%", fill: "#fff" });
    const { _size: size, _subplots: { gl3d = [] }, ...parts } = plot._fullLayout;
    for (const { domain: { x, y }, _scene: scene } of gl3d.map((name) => parts[name])) {
      const [left, top] = [size.l + x[0] * size.w, size.t + (1 - y[1]) * size.h];
      const [across, down] = [[x, size.w], [y, size.h]].map(([[from, to], length]) => (to - from) * length);
      add("image", "", { x: left, y: top, width: across, height: down, href: pictured(scene) });
    }
    for (const layer of layers) whole.append(...layer.cloneNode(true).childNodes);
    const source = new XMLSerializer().serializeToString(whole)
      .replace(/url\((&quot;|['"])?[^)'"&#]*#/g, "url($1#"); // clips by their place in the page
    const theme = getComputedStyle(host);
    const [text, paper] = ["text", "background"].map((name) => theme.getPropertyValue(`--st-${name}-color`).trim());
    const own = { [rgb(text)]: INK["rgb(230, 234, 241)"], [rgb(paper)]: "rgb(255, 255, 255)", "rgb(250, 250, 250)": INK["rgb(230, 234, 241)"] };
    const inks = parseInt(paper.slice(1, 3), 16) < 128 ? { ...INK, ...own } : {};
    return source.replace(/rgb\(\d+, \d+, \d+\)/g, (colour) => inks[colour] ?? colour);
  };
  const files = {
    svg: () => save(new Blob([drawn()], { type: "image/svg+xml" }), `${data.name}.svg`),
    png: async () => save(await withText(await rastered(drawn(), "#fff"), data.says), `${data.name}.png`),
  };
  for (const button of parentElement.querySelectorAll(".file")) button.onclick = () => files[button.dataset.kind]();
}
