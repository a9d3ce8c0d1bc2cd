// One button between light and dark. Streamlit reads its choice when a page opens, by the page's path.
export default function ({ data, parentElement }) {
  const button = parentElement.querySelector("button");
  const dark = getComputedStyle(document.querySelector(".stApp")).colorScheme === "dark";
  button.textContent = dark ? "Light" : "Dark";
  button.onclick = () => {
    const base = location.pathname.replace(/[^/]*$/, "");
    data.paths.forEach((path) => localStorage.setItem(`stActiveTheme-${base}${path}-v2`, JSON.stringify(button.textContent)));
    location.reload();
  };
}
