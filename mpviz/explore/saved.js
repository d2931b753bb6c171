// Starts the explorer of a saved page in place of its still picture; says why, if it cannot.
// Of several in one document each script starts one, in their order.

const page = document.querySelector(".mpviz-saved:not([data-started])");
page.dataset.started = "true";
const notice = page.querySelector(".mpviz-notice");
try {
  const recording = await unpacked(page.querySelector(".mpviz-store")?.textContent.trim());
  const live = element("div");
  render({ model: new Recorded(recording), el: live });
  page.querySelector(".mpviz-still").replaceChildren(live);
  notice.remove();
} catch (error) {
  notice.textContent = `The sliders are missing: ${error.message}.`;
}
