// Channel maps as buttons in a grid: one atlas picture, one tile of it a channel.
export default function ({ data, parentElement, setTriggerValue }) {
  const grid = parentElement.querySelector(".tiles");
  const stamp = JSON.stringify([data.atlas.length, data.atlas.slice(-64), data.channels, data.selected]);
  if (grid.dataset.stamp !== stamp) {
    grid.dataset.stamp = stamp;
    const focused = grid.contains(parentElement.activeElement ?? document.activeElement);
    grid.replaceChildren(...data.channels.map((channel, index) => {
      const tile = document.createElement("button");
      const picture = document.createElement("span");
      const column = index % data.columns, row = Math.floor(index / data.columns);
      const rows = Math.ceil(data.channels.length / data.columns);
      picture.style.backgroundImage = `url(${data.atlas})`;
      picture.style.backgroundSize = `${data.columns * 100}% ${rows * 100}%`;
      picture.style.backgroundPosition =
        `${data.columns > 1 ? (column / (data.columns - 1)) * 100 : 0}% ${rows > 1 ? (row / (rows - 1)) * 100 : 0}%`;
      picture.style.aspectRatio = data.aspect;
      const label = document.createElement("small");
      label.textContent = channel;
      tile.append(picture, label);
      tile.setAttribute("aria-label", `channel ${channel}`);
      tile.setAttribute("aria-pressed", channel === data.selected);
      tile.tabIndex = channel === data.selected || (index === 0 && !data.channels.includes(data.selected)) ? 0 : -1;
      tile.onclick = () => setTriggerValue("chosen", channel);
      return tile;
    }));
    if (focused) grid.querySelector("[aria-pressed='true']")?.focus({ preventScroll: true });
  }
  grid.onkeydown = (event) => {
    const tiles = [...grid.children], at = tiles.indexOf(event.target.closest("button"));
    const across = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across }[event.key];
    if (step === undefined || at < 0) return;
    event.preventDefault();
    const next = tiles[Math.min(tiles.length - 1, Math.max(0, at + step))];
    tiles.forEach((tile) => { tile.tabIndex = -1; });
    next.tabIndex = 0;
    next.focus();
  };
}
