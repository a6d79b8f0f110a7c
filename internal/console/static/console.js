// What makes pages better where scripts run. Everything works without.

// Copy buttons: shown here, since they are of no use without scripts.
const reveal = (root) => root.querySelectorAll("[data-copy][hidden]").forEach((button) => { button.hidden = false; });
document.addEventListener("DOMContentLoaded", () => reveal(document));
document.addEventListener("htmx:load", (event) => reveal(event.detail.elt));
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  button.classList.add("copied");
  setTimeout(() => button.classList.remove("copied"), 1500);
});

// Check boxes that choose all of a table.
document.addEventListener("change", (event) => {
  const all = event.target.closest("[data-check-all]");
  if (!all) return;
  document.querySelectorAll(`input[name="${CSS.escape(all.dataset.checkAll)}"]`).forEach((box) => { box.checked = all.checked; });
});

// Menus close when something else is clicked, or with Escape.
const menus = () => document.querySelectorAll("details.dropdown-plain[open], details.menu-narrow[open]");
document.addEventListener("click", (event) => menus().forEach((menu) => { if (!menu.contains(event.target)) menu.open = false; }));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    menus().forEach((menu) => { menu.open = false; menu.querySelector("summary").focus(); });
  } else if (event.key === "/" && !event.ctrlKey && !event.metaKey && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) {
    const search = document.getElementById("top-q");
    if (search) { event.preventDefault(); search.focus(); }
  }
});

// A part that refreshes itself waits while nobody looks, and while the keyboard is in it, rows of it are chosen, text is
// marked or something is opened to be read: that would be lost.
document.addEventListener("htmx:beforeRequest", (event) => {
  const part = event.detail.elt;
  const asked = event.detail.requestConfig.triggeringEvent;
  if (asked) return;
  const marked = document.getSelection();
  const reading = part.querySelector("input:checked, details[open]") || (marked && !marked.isCollapsed && part.contains(marked.anchorNode));
  // Where everything that takes the focus has an identifier, htmx gives it back.
  const kept = part.dataset.refresh === "focus" || !part.contains(document.activeElement);
  if (document.hidden || reading || !kept) event.preventDefault();
});

// A session that ended while a page refreshes itself.
document.addEventListener("htmx:responseError", (event) => {
  const target = event.detail.xhr.getResponseHeader("HX-Redirect");
  if (target) location.href = target;
});
