// The pages, whose links open in this session, as Back and Forward do; a new tab opens them as any link.
export default function ({ data, parentElement }) {
  const menu = parentElement.querySelector("nav");
  for (const link of menu.querySelectorAll("a")) {
    const query = data.queries[link.dataset.path] ?? data.query;
    link.setAttribute("href", `./${link.dataset.path}${query && "?"}${query}`);
    if (link.dataset.path === data.here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  menu.onclick = (event) => {
    const link = event.target.closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    history.pushState(null, "", link.href);
    dispatchEvent(new PopStateEvent("popstate"));
  };
}
