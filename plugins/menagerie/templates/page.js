"use strict";
const framed = window.parent !== window;

// Airflow has a theme of its own choice, which the page in its frame follows.
if (framed) {
  const airflow = parent.document.documentElement;
  const follow = () => document.documentElement.dataset.theme = airflow.classList.contains("dark") ? "dark" : "light";
  new MutationObserver(follow).observe(airflow, { attributeFilter: ["class"] });
  follow();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-out], a[data-picture]");
  const dialog = document.getElementById("large");
  if (!link) {
    if (event.target.closest("#large")) dialog.close();
  } else if (link.matches("[data-picture]")) {
    event.preventDefault();
    Object.assign(dialog.querySelector("img"), { src: link.href, alt: link.querySelector("img").alt });
    dialog.showModal();
  } else if (framed) {
    // Airflow's frame may open no windows: a link in Airflow's own page may.
    event.preventDefault();
    const copy = Object.assign(parent.document.createElement("a"), {
      href: link.href instanceof SVGAnimatedString ? new URL(link.href.baseVal, location) : link.href,
      target: link.getAttribute("target") === "_blank" ? "_blank" : "", rel: "noopener",
    });
    parent.document.body.append(copy);
    copy.click();
    copy.remove();
  }
});

// What runs is asked for again and again; when a run starts or ends, the page as a whole is out of date.
const now = document.getElementById("now");
const runs = () => now.firstElementChild.dataset.runs;
// For those who hear the page: what runs and what waits, and not each step of it.
const speak = () => {
  const words = [...now.querySelectorAll("p > b")].map((bold) => bold.textContent).join(". ") || "Nothing is running.";
  const spoken = document.getElementById("spoken");
  if (spoken.textContent !== words) spoken.textContent = words;
};
const refresh = async () => {
  if (document.hidden) return;
  try {
    const answer = await fetch("now", { redirect: "error" });
    if (!answer.ok) throw new Error(answer.status === 401 ? "You are logged out" : "Airflow or MLflow doesn't answer");
    const before = runs();
    now.innerHTML = await answer.text();
    speak();
    if (runs() !== before) location.reload();
  } catch (error) {
    now.classList.add("stale");
    now.title = `${error.message}: this was so at ${new Date().toLocaleTimeString()}`;
    return;
  }
  now.classList.remove("stale");
  now.title = "";
};
const again = async () => {
  await refresh();
  setTimeout(again, now.querySelector(".busy") ? 3000 : 10000);
};
if (now) setTimeout(again, 3000);
