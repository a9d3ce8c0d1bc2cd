// Shows the element of the page that `data` names. It keeps to it while formulas and code above find their height, until a
// person does something.
export default function ({ data }) {
  const page = document.querySelector("[data-testid=stMain]");
  const until = Date.now() + 4000;
  let left = false;
  let before;
  for (const kind of ["wheel", "touchmove", "keydown", "pointerdown"]) {
    window.addEventListener(kind, () => { left = true; }, { once: true, passive: true });
  }
  const follow = () => {
    if (left || Date.now() > until) return;
    const element = document.getElementById(data);
    const place = element && page.scrollTop + element.getBoundingClientRect().top;
    if (element && place !== before) {
      element.scrollIntoView();
      before = place;
    }
    setTimeout(follow, 100);
  };
  follow();
}
