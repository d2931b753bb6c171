// Starts the explorer of a saved page in place of its still picture; says why, if it cannot.

try {
  const recording = await unpacked(document.getElementById("store")?.textContent.trim());
  const live = element("div");
  render({ model: new Recorded(recording), el: live });
  document.getElementById("explorer").replaceChildren(live);
} catch (error) {
  document.getElementById("notice").textContent = `The sliders are missing: ${error.message}.`;
}
