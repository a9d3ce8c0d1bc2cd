// In a notebook: the network and below it the part that is open, drawn by the `picture` that stands before this. Styles of
// the page and of the drawings stay apart, as in the app.
export default {
  render({ model, el }) {
    const page = el.shadowRoot ?? el.attachShadow({ mode: "open" });
    el.dataset.lmSuppressShortcuts = "true"; // keys are the drawing's, and do not lead to another cell of JupyterLab
    page.innerHTML = `<style>${CSS}</style>${HTML}<p class="words" aria-live="polite"></p>${HTML}`;
    const [network, part] = [...page.querySelectorAll(".picture")].map((card) => {
      const parentElement = document.createElement("div");
      card.replaceWith(parentElement);
      parentElement.append(card);
      return parentElement;
    });
    const words = page.querySelector(".words");

    const choose = (name, id) => {
      if (id.startsWith("unfold ")) model.set("unfolded", [...model.get("unfolded"), id.slice("unfold ".length)]);
      else model.set("selected", id);
      model.save_changes();
    };
    const show = () => {
      words.textContent = model.get("words");
      for (const [parentElement, data] of [[network, model.get("network")], [part, model.get("part")]]) {
        parentElement.hidden = !data.layouts.length;
        if (data.layouts.length) picture({ data, parentElement, setTriggerValue: choose });
      }
    };
    const changes = ["network", "part", "words"].map((name) => `change:${name}`).join(" ");
    model.on(changes, show);
    show();
    return () => model.off(changes, show);
  },
};
