// The kernel's side of an explorer, played from answers kept ahead: recording.py writes them.

// Lines of JSON: an answer to each combination of the settings kept, and last what these are.
async function unpacked(store) {
  if (!store) throw new Error("the recorded answers are missing from this page");
  if (!globalThis.DecompressionStream)
    throw new Error("this browser cannot unpack the recorded answers (DecompressionStream)");
  let text;
  try {
    const packed = new Blob([bytesOf(store)]).stream();
    text = await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).text();
  } catch {
    throw new Error("the recorded answers of this page are damaged or cut off");
  }
  try {
    const answers = text.trimEnd().split("\n");
    const recording = { ...JSON.parse(answers.pop()), answers };
    const count = Object.values(recording.kept).reduce((count, kept) => count * kept.length, 1);
    if (count !== answers.length) throw new Error();
    return recording;
  } catch {
    throw new Error("the recorded answers of this page are not those of an explorer");
  }
}

// What a panel takes for its model: it sets `asked`, and is answered at once.
class Recorded {
  constructor(recording, settings = recording.start) {
    this.recording = recording;
    const held = Object.entries(settings).filter((setting) => this.holds(...setting));
    this.at = { ...recording.start, ...Object.fromEntries(held) };
    if ("problem" in this.found()) this.at = { ...recording.start }; // which fitted
    this.listeners = new Set();
    const { title, pointed, glyphs } = recording;
    this.state = { title, pointed, glyphs, asked: {}, shown: {} };
    this.answer({});
  }

  get(name) {
    return this.state[name];
  }

  set(name, value) {
    this.state[name] = value;
  }

  on(_, listener) {
    this.listeners.add(listener);
  }

  off(_, listener) {
    this.listeners.delete(listener);
  }

  save_changes() {
    this.answer(this.state.asked.changes ?? {});
    this.listeners.forEach((listener) => listener());
  }

  answer(changes) {
    const outside = Object.entries(changes).find((change) => !this.holds(...change));
    if (outside) return this.show(this.refusal(...outside));
    Object.assign(this.at, changes);
    const found = this.found();
    if (!("problem" in found)) {
      for (const [name, value] of Object.entries(found.words.settings))
        if (this.holds(name, value)) this.at[name] = value; // what followed from the change
      this.good = { ...this.at };
      this.words = found.words;
      Object.assign(this.state, { scene: found.scene, controls: found.controls });
      return this.show({ problem: "", fixes: [] });
    }
    const back = { text: `back to ${this.words.summary}`, changes: this.good };
    this.show({ problem: found.problem, fixes: [...found.fixes, back] });
  }

  holds(name, value) {
    return this.recording.kept[name]?.includes(value) ?? false;
  }

  found() {
    const { kept, answers } = this.recording;
    const index = Object.keys(kept).reduce(
      (index, name) => index * kept[name].length + kept[name].indexOf(this.at[name]),
      0,
    );
    return JSON.parse(answers[index]);
  }

  show(rest) {
    const settings = { ...this.words.settings, ...this.at };
    this.state.shown = { ...this.words, ...rest, settings, answers: this.state.asked.number ?? 0 };
  }

  refusal(name, value) {
    const said = (one) => (one === null ? "none" : String(one));
    const kept = this.recording.kept[name];
    const asked = `${name} ${said(value)} is not recorded on this page`;
    if (!kept) {
      const names = Object.keys(this.recording.kept).join(", ");
      return { problem: `${asked}; it moves ${names}`, fixes: [] };
    }
    const near = nearest(kept, value);
    const fixes = near.map((one) => ({ text: `${name} = ${said(one)}`, changes: { [name]: one } }));
    return { problem: `${asked}; the nearest is ${near.map(said).join(" or ")}`, fixes };
  }
}

// The recorded number below and the one above; of anything else, all.
function nearest(kept, value) {
  const numbers = kept.filter((one) => typeof one === "number").sort((a, b) => a - b);
  if (typeof value !== "number" || numbers.length === 0) return kept;
  const [below, above] = [numbers.findLast((one) => one < value), numbers.find((one) => one > value)];
  return [below, above].filter((one) => one !== undefined);
}

// Stands in with the reason why nothing moves, where nothing can.
class Silent {
  constructor(model, reason) {
    Object.assign(this, { model, reason, asked: {} });
  }

  get(name) {
    if (name !== "shown") return this.model.get(name);
    const shown = this.model.get("shown");
    const settings = { ...shown.settings, ...this.asked.changes };
    const problem = `the kernel does not answer, and ${this.reason}`;
    return { ...shown, settings, problem, fixes: [], answers: this.asked.number };
  }

  set(_, asked) {
    this.asked = asked;
  }

  save_changes() {}
}

// The kernel's model of a notebook; where that does not answer in time, the recorded one in its
// place, until the kernel has answered all that was asked meanwhile.
const PATIENCE = 1500; // ms

class Standby {
  constructor(model) {
    Object.assign(this, { model, unheard: new Map(), listeners: new Set() });
    this.heard = () => {
      if (model.get("shown").answers !== model.get("asked").number) return;
      clearTimeout(this.timer);
      Object.assign(this, { timer: undefined, recorded: undefined });
      this.unheard.clear();
    };
    model.on("change:shown", this.heard);
  }

  get(name) {
    const model = this.recorded && name !== "asked" ? this.recorded : this.model;
    return model.get(name);
  }

  set(name, value) {
    if (name !== "asked") return this.model.set(name, value);
    this.latest = value;
    for (const [setting, to] of Object.entries(value.changes)) {
      this.unheard.delete(setting);
      this.unheard.set(setting, to); // now the latest
    }
    this.model.set(name, { ...value, changes: Object.fromEntries(this.unheard) });
  }

  on(event, listener) {
    this.listeners.add(listener);
    this.model.on(event, listener);
  }

  off(event, listener) {
    this.listeners.delete(listener);
    this.model.off(event, listener);
    this.model.off("change:shown", this.heard);
    clearTimeout(this.timer);
  }

  save_changes() {
    this.model.save_changes();
    if (this.recorded) this.answer();
    else this.timer ??= setTimeout(() => this.standIn(), PATIENCE);
  }

  async standIn() {
    let recorded;
    try {
      const recording = await unpacked(this.model.get("store"));
      recorded = new Recorded(recording, this.model.get("shown").settings);
    } catch ({ message }) {
      recorded = new Silent(this.model, message);
    }
    if (!this.timer) return; // the kernel has answered while this was unpacked
    this.recorded = recorded;
    this.answer();
  }

  answer() {
    this.recorded.set("asked", this.latest);
    this.recorded.save_changes();
    this.listeners.forEach((listener) => listener());
  }
}
