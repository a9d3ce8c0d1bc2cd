// Shows the element of the page that `data` names, once formulas and code have their height.
export default function ({ data }) {
  setTimeout(() => document.getElementById(data)?.scrollIntoView(), 700);
}
