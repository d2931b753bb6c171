// The page's side of an explorer: shows what the kernel says, sends back what its reader sets.

function render({ model: kernel, el }) {
  const model = new Standby(kernel);
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
  const controls = new Controls(
    parts.controls,
    (changes) => talk.ask(changes),
    () => talk.unanswered.size > 0,
  );
  const message = new Message(parts.message, (changes) => {
    talk.ask(changes);
    controls.focus(Object.keys(changes)[0]); // the button just clicked is about to vanish
  });
  const picture = new Picture(parts.picture, model.get("pointed"), (changes) =>
    talk.ask(changes),
  );

  // All of an answer at once, when its rasters are decoded: it takes a single frame, and words are
  // never ahead of their picture.
  let latest = {};
  let arrived = 0;
  let applied = 0;
  const update = async () => {
    const [scene, shown] = [model.get("scene"), model.get("shown")];
    if (scene === latest.scene && shown === latest.shown) return;
    latest = { scene, shown };
    const turn = ++arrived;
    const bitmaps = await decoded(scene);
    if (turn < applied) return; // a later one was decoded sooner
    applied = turn;
    picture.show(scene, bitmaps, model.get("glyphs"), shown);
    if (talk.settles(shown)) controls.update(model.get("controls"), shown.settings);
    showWords(parts.words, shown);
    message.update(shown);
  };

  // The reader zooms, or moves the window to another screen.
  const sharpen = () => picture.paint();
  model.on("change", update);
  addEventListener("resize", sharpen);
  update();
  return () => {
    controls.stop();
    model.off("change", update);
    removeEventListener("resize", sharpen);
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
  constructor(box, send, busy) {
    Object.assign(this, { box, send, busy, made: new Map() });
  }

  update(described, settings) {
    for (const control of described) {
      if (!this.made.has(control.name)) {
        const made = control.kind === "slider" ? new Slider(this.send) : new Menu(this.send);
        this.made.set(control.name, made);
        this.box.append(made.label);
        if (control.plays) {
          made.player = new Player(made, this.busy);
          this.box.append(made.player.box);
        }
      }
      this.made.get(control.name).update(control, settings[control.name]);
    }
  }

  focus(name) {
    this.made.get(name)?.input.focus();
  }

  stop() {
    for (const { player } of this.made.values()) player?.end();
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

// A button that moves a slider from stop to stop, each once the one before is answered.
class Player {
  constructor(slider, busy) {
    Object.assign(this, { slider, busy });
    this.button = button("", () => (this.timer ? this.stop() : this.start()));
    this.speed = element(
      "select",
      {},
      ["½ ×", "1 ×", "2 ×", "4 ×"].map((text) => element("option", { text })),
    );
    this.speed.selectedIndex = 1;
    this.speed.setAttribute("aria-label", "speed");
    // Who wants less motion goes on stop by stop.
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.still.onchange = () => this.stop();
    this.box = element("div", { className: "mpviz-player" }, [this.button, this.speed]);
    this.stop();
  }

  start() {
    if (this.still.matches) return this.step();
    this.button.textContent = "❚❚ Pause";
    this.step();
  }

  step() {
    const { input } = this.slider;
    if (!this.busy()) {
      if (input.valueAsNumber >= +input.max) input.value = input.min;
      else input.stepUp();
      if (this.slider.value === null) input.stepUp(); // the film begins after "none"
      input.dispatchEvent(new Event("input"));
    }
    if (this.still.matches) return;
    if (input.valueAsNumber >= +input.max) return this.stop();
    const seconds = 10 / 2 ** (this.speed.selectedIndex - 1) / (input.max - input.min);
    this.timer = setTimeout(() => this.step(), 1000 * seconds);
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.button.textContent = this.still.matches ? "Step" : "▶ Play";
    this.speed.hidden = this.still.matches;
  }

  end() {
    this.stop();
    this.still.onchange = null;
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

// ---- the picture

class Picture {
  constructor(box, pointed, send) {
    this.canvas = element("canvas", { role: "img" });
    this.painter = new Painter(this.canvas);
    box.append(this.canvas);
    if (!pointed) return;
    // For the mouse alone: keys have the slider.
    this.canvas.classList.add("mpviz-pointable");
    this.canvas.addEventListener("click", async ({ offsetX, offsetY }) => {
      // A click is on the picture that was there, whatever has been drawn since.
      const { clientWidth, clientHeight } = this.canvas;
      const { scene } = this.shown;
      const [width, height] = scene.size;
      const at = [(offsetX / clientWidth) * width, (offsetY / clientHeight) * height];
      send({ [pointed]: await rankAt(scene, ...at) });
    });
  }

  show(scene, bitmaps, glyphs, { alt, width, height, code }) {
    this.shown = { scene, bitmaps, glyphs, size: { width, height } };
    this.paint();
    this.canvas.ariaLabel = alt;
    Object.assign(this.canvas.style, { width: `${width}px`, aspectRatio: `${width} / ${height}` });
    this.canvas.dataset.code = code;
  }

  // In whole pixels of the screen; cells of a raster are whole at every second of them.
  paint() {
    if (!this.shown) return;
    const { scene, bitmaps, glyphs, size } = this.shown;
    const fine = Math.ceil(devicePixelRatio);
    const sharpness = bitmaps.length > 0 ? 2 * Math.ceil(fine / 2) : fine;
    this.painter.paint(scene, bitmaps, glyphs, size, sharpness);
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
