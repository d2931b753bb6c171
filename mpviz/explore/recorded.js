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
  const answers = text.trimEnd().split("\n");
  return { ...JSON.parse(answers.pop()), answers };
}

// What a panel takes for its model: it sets `asked`, and is answered at once.
class Recorded {
  constructor(recording) {
    this.recording = recording;
    this.at = { ...recording.start };
    this.listeners = new Set();
    const { title, pointed, controls, glyphs } = recording;
    this.state = { title, pointed, controls, glyphs, asked: {}, shown: {} };
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
    const found = JSON.parse(this.recording.answers[this.index()]);
    if (!("problem" in found)) {
      this.good = { ...this.at };
      this.words = found.words;
      this.state.scene = found.scene;
      return this.show({ problem: "", fixes: [] });
    }
    const back = { text: `back to ${this.words.summary}`, changes: this.good };
    this.show({ problem: found.problem, fixes: [...found.fixes, back] });
  }

  holds(name, value) {
    return this.recording.kept[name]?.includes(value) ?? false;
  }

  index() {
    const { kept } = this.recording;
    return Object.keys(kept).reduce(
      (index, name) => index * kept[name].length + kept[name].indexOf(this.at[name]),
      0,
    );
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
