// Shows the element of the page that `data` names, and keeps to it while formulas and code find their height, until somebody
// scrolls or does anything else.
export default function ({ data }) {
  const page = document.querySelector("[data-testid=stMain]");
  const until = Date.now() + 4000;
  let left = false;
  for (const kind of ["wheel", "touchmove", "keydown", "pointerdown"]) {
    window.addEventListener(kind, () => { left = true; }, { once: true, passive: true });
  }
  let before;
  const follow = () => {
    const element = document.getElementById(data);
    const place = () => [page.scrollTop, element.getBoundingClientRect().top];
    if (element && before) {
      const [scrolled, top] = place();
      left ||= scrolled !== before[0] && top !== before[1];
    }
    if (left || Date.now() > until) return;
    if (element) {
      element.scrollIntoView();
      before = place();
    }
    setTimeout(follow, 100);
  };
  follow();
}
