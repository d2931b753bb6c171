// The page's side of an explorer: shows what the kernel says, sends back what its reader sets.

function render({ model, el }) {
  const panel = element("section", { className: "mpviz-explorer" });
  panel.setAttribute("aria-label", model.get("title"));
  const parts = {
    controls: element("div", { className: "mpviz-controls" }),
    words: element("div", { className: "mpviz-words" }),
    message: element("div", { className: "mpviz-message" }),
    picture: element("figure", { className: "mpviz-picture" }),
  };
  const top = element("div", { className: "mpviz-top" }, [parts.controls, parts.words]);
  panel.append(top, parts.message, parts.picture);
  el.append(panel);

  const talk = new Conversation(model);
  const controls = new Controls(parts.controls, (changes) => talk.ask(changes));
  const message = new Message(parts.message, (changes) => {
    talk.ask(changes);
    controls.focus(Object.keys(changes)[0]); // the button just clicked is about to vanish
  });
  const picture = new Picture(parts.picture, model.get("pointable"), (point) =>
    talk.ask({ point }),
  );

  // All of an answer at once, when its picture is decoded: it takes a single frame, and words are
  // never ahead of their picture.
  let latest = {};
  let arrived = 0;
  let applied = 0;
  const update = async () => {
    const [png, shown] = [model.get("png"), model.get("shown")];
    if (png === latest.png && shown === latest.shown) return;
    latest = { png, shown };
    const turn = ++arrived;
    const bitmap = await createImageBitmap(new Blob([png], { type: "image/png" }));
    if (turn < applied) return; // a later one was decoded sooner
    applied = turn;
    picture.show(bitmap, shown);
    if (talk.settles(shown)) controls.update(model.get("controls"), shown.settings);
    showWords(parts.words, shown);
    message.update(shown);
  };

  // Changes when the reader zooms, or moves the window to another screen.
  const measure = () => {
    model.set("sharpness", Math.min(2, Math.ceil(devicePixelRatio)));
    model.save_changes();
  };
  model.on("change", update);
  addEventListener("resize", measure);
  update();
  measure();
  return () => {
    model.off("change", update);
    removeEventListener("resize", measure);
  };
}

function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  // Keys belong to the control that has the focus, not to shortcuts of the notebook around it.
  if (["button", "input", "select"].includes(tag)) made.dataset.lmSuppressShortcuts = "true";
  made.append(...children);
  return made;
}

// ---- what is asked and what is answered: while the kernel is busy only the last question waits,
// so each repeats all that is unanswered, and no answer to an earlier one moves a control back

class Conversation {
  constructor(model) {
    this.model = model;
    this.unanswered = new Map();
  }

  ask(changes) {
    for (const [name, value] of Object.entries(changes)) {
      this.unanswered.delete(name);
      this.unanswered.set(name, value); // now the latest
    }
    // Another view of the same explorer may have asked before.
    this.number = (this.model.get("asked").number ?? 0) + 1;
    const asked = { number: this.number, changes: Object.fromEntries(this.unanswered) };
    this.model.set("asked", asked);
    this.model.save_changes();
  }

  settles({ answers }) {
    if (this.unanswered.size > 0 && answers !== this.number) return false;
    this.unanswered.clear();
    return true;
  }
}

// ---- controls: made once, then only adjusted, so that a drag or the focus is never lost

class Controls {
  constructor(box, send) {
    this.box = box;
    this.send = send;
    this.made = new Map();
  }

  update(described, settings) {
    for (const control of described) {
      if (!this.made.has(control.name)) {
        const made = control.kind === "slider" ? new Slider(this.send) : new Menu(this.send);
        this.made.set(control.name, made);
        this.box.append(made.label);
      }
      this.made.get(control.name).update(control, settings[control.name]);
    }
  }

  focus(name) {
    this.made.get(name)?.input.focus();
  }
}

class Slider {
  constructor(send) {
    this.name = element("span");
    this.says = element("output");
    this.input = element("input", { type: "range", step: 1 });
    this.label = element("label", { className: "mpviz-control" }, [
      element("span", { className: "mpviz-name" }, [this.name, this.says]),
      this.input,
    ]);
    this.input.addEventListener("input", () => {
      this.say();
      send({ [this.input.name]: this.value });
    });
  }

  get value() {
    const at = this.input.valueAsNumber;
    if (this.stops) return this.stops[at];
    return at < 0 ? null : at;
  }

  say() {
    const text = this.value === null ? "none" : this.value.toLocaleString("en");
    this.says.textContent = text;
    this.input.setAttribute("aria-valuetext", text);
  }

  update(control, value) {
    this.stops = control.values;
    this.name.textContent = control.label;
    this.input.name = control.name;
    this.input.setAttribute("aria-label", control.label);
    this.input.min = this.stops ? 0 : control.least;
    this.input.max = this.stops ? this.stops.length - 1 : control.most;
    this.input.value = this.stops ? this.stops.indexOf(value) : (value ?? -1);
    this.say();
  }
}

class Menu {
  constructor(send) {
    this.name = element("span", { className: "mpviz-name" });
    this.input = element("select");
    this.label = element("label", { className: "mpviz-control" }, [this.name, this.input]);
    this.input.addEventListener("change", () =>
      send({ [this.input.name]: this.options[this.input.selectedIndex].value }),
    );
  }

  update(control, value) {
    this.name.textContent = control.label;
    this.input.name = control.name;
    if (this.texts !== (this.texts = control.options.map(({ text }) => text).join("\n")))
      this.input.replaceChildren(...control.options.map(({ text }) => element("option", { text })));
    this.options = control.options;
    this.input.selectedIndex = control.options.findIndex((option) => option.value === value);
  }
}

// ---- the picture: on a canvas, which takes a new one whole, in half the time of an <img>

class Picture {
  constructor(box, pointable, send) {
    this.canvas = element("canvas", { role: "img" });
    this.paint = this.canvas.getContext("bitmaprenderer");
    box.append(this.canvas);
    if (!pointable) return;
    // For the mouse alone: keys have the slider.
    this.canvas.classList.add("mpviz-pointable");
    this.canvas.addEventListener("click", ({ offsetX, offsetY }) => {
      const { clientWidth, clientHeight } = this.canvas;
      send([this.number, offsetX / clientWidth, offsetY / clientHeight]);
    });
  }

  show(bitmap, { alt, width, height, code, picture }) {
    this.number = picture; // a click is on this one, whatever the kernel has drawn since
    Object.assign(this.canvas, { width: bitmap.width, height: bitmap.height, ariaLabel: alt });
    Object.assign(this.canvas.style, { width: `${width}px`, aspectRatio: `${width} / ${height}` });
    this.canvas.dataset.code = code;
    this.paint.transferFromImageBitmap(bitmap);
  }
}

// ---- words

class Message {
  constructor(box, send) {
    this.says = element("p");
    this.says.setAttribute("role", "status");
    this.below = element("div");
    this.line = element("code");
    this.copy = button("Copy", () => {
      getSelection().selectAllChildren(this.line);
      navigator.clipboard?.writeText(this.line.textContent);
    });
    this.box = box;
    this.send = send;
    box.append(this.says, this.below);
  }

  update({ summary, problem, fixes, code }) {
    this.box.classList.toggle("mpviz-problem", problem !== "");
    this.says.textContent = problem ? `${problem}.` : summary;
    this.line.textContent = code;
    const ways = fixes.map(({ text, changes }) => button(text, () => this.send(changes)));
    this.below.replaceChildren(...(problem ? ways : [this.line, this.copy]));
  }
}

function button(text, act) {
  const made = element("button", { type: "button", textContent: text });
  made.addEventListener("click", act);
  return made;
}

function showWords(box, { table: [head, ...rows], note }) {
  const cells = (tag, texts) => texts.map((textContent) => element(tag, { textContent }));
  const line = ([first, ...rest]) =>
    element("tr", {}, [
      element("th", { scope: "row", textContent: first }),
      ...cells("td", rest),
    ]);
  const titles = cells("th", head);
  for (const title of titles) title.scope = "col";
  box.replaceChildren(
    element("table", {}, [
      element("thead", {}, [element("tr", {}, titles)]),
      element("tbody", {}, rows.map(line)),
    ]),
    element("p", { className: "mpviz-note", textContent: note }),
  );
}

export default { render };
