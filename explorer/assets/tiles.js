// Pictures as buttons in a grid: one sheet from Python, one tile of it a button.
export default function ({ data, parentElement, setTriggerValue }) {
  const grid = parentElement.querySelector(".tiles");
  grid.classList.toggle("row", data.row);
  const stamp = JSON.stringify([data.sheet, data.items, data.selected]);
  if (grid.stamp !== stamp) {
    const focused = grid.stamp && grid.contains(grid.getRootNode().activeElement);
    grid.stamp = stamp;
    const rows = Math.ceil(data.items.length / data.columns);
    const share = (index, count) => (count > 1 ? (index / (count - 1)) * 100 : 0);
    const known = data.items.some(({ id }) => id === data.selected);
    grid.replaceChildren(...data.items.map(({ id, label, name, hint }, index) => {
      const tile = document.createElement("button");
      const picture = document.createElement("span");
      picture.style.backgroundImage = `url(${data.sheet})`;
      picture.style.backgroundSize = `${data.columns * 100}% ${rows * 100}%`;
      picture.style.backgroundPosition =
        `${share(index % data.columns, data.columns)}% ${share(Math.floor(index / data.columns), rows)}%`;
      picture.style.aspectRatio = data.aspect;
      const caption = document.createElement("small");
      caption.textContent = label;
      tile.append(picture, caption);
      tile.title = hint;
      if (name !== label) tile.setAttribute("aria-label", name);
      tile.setAttribute("aria-pressed", id === data.selected);
      tile.tabIndex = id === data.selected || (!known && index === 0) ? 0 : -1;
      tile.onclick = () => {
        tile.animate([{ opacity: 0.4, offset: 0 }], 400); // seen at once, before Python answers
        setTriggerValue("chosen", id);
      };
      return tile;
    }));
    if (data.row) { // the chosen one is seen
      const chosen = grid.querySelector("[aria-pressed='true']");
      if (chosen) grid.scrollLeft = chosen.offsetLeft - (grid.clientWidth - chosen.clientWidth) / 2;
    }
    if (focused) grid.querySelector("[aria-pressed='true']")?.focus({ preventScroll: true });
  }
  grid.onkeydown = (event) => {
    const tiles = [...grid.children], at = tiles.indexOf(event.target.closest("button"));
    const across = data.row ? tiles.length : getComputedStyle(grid).gridTemplateColumns.split(" ").length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across }[event.key];
    if (step === undefined || at < 0) return;
    event.preventDefault();
    const next = tiles[Math.min(tiles.length - 1, Math.max(0, at + step))];
    tiles.forEach((tile) => { tile.tabIndex = -1; });
    next.tabIndex = 0;
    next.focus();
  };
}
