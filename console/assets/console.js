"use strict";
// Live updates, keys and relative times. Pages work without it.
(() => {
  const live = document.getElementById("live");
  const pause = document.getElementById("pause");
  const RETRY = 15000;
  let source = null;
  let isPaused = false;
  let pending = null;

  const ages = () => {
    for (const time of document.querySelectorAll("time[datetime]")) {
      const seconds = Math.round((Date.now() - Date.parse(time.dateTime)) / 1000);
      const span = Math.abs(seconds);
      const [size, unit] = span < 90 ? [1, "s"] : span < 5400 ? [60, "min"]
        : span < 129600 ? [3600, "h"] : [86400, "d"];
      const text = `${Math.round(span / size)} ${unit}`;
      time.title = seconds < 0 ? `in ${text}` : `${text} ago`;
    }
  };

  // What a click is about to hit stays in its place for some seconds.
  let moved = 0;
  document.addEventListener("pointermove", () => { moved = Date.now(); });
  const isAiming = () => Date.now() - moved < 3000 && live.querySelector("button:hover");

  const isBusy = () => {
    const at = document.activeElement;
    const isTyping = at && live.contains(at) && at.matches("input, select, textarea");
    const selection = document.getSelection();
    const isSelecting = selection && !selection.isCollapsed && live.contains(selection.anchorNode);
    return isTyping || isSelecting || isAiming();
  };

  // The server has escaped what it sends; scripts in it would not run anyway.
  const show = ({ id, body }) => {
    if (isBusy()) { pending = { id, body }; return; }
    pending = null;
    const open = new Set([...live.querySelectorAll("details[open][id]")].map((of) => of.id));
    const row = rows().indexOf(live.querySelector("tr.at"));
    live.innerHTML = body;
    live.dataset.shown = id;
    for (const details of live.querySelectorAll("details[id]")) {
      if (open.has(details.id)) details.open = true;
    }
    if (row >= 0) rows()[row]?.classList.add("at");
    ages();
  };

  const mark = (name, text) => {
    if (!pause) return;
    pause.className = name;
    pause.textContent = text;
  };

  const disconnect = () => { source?.close(); source = null; };
  const connect = () => {
    if (!live || source || isPaused || document.hidden) return;
    const url = new URL(location.href);
    url.hash = "";
    for (const name of ["done", "seal"]) url.searchParams.delete(name);
    url.searchParams.set("shown", live.dataset.shown);
    source = new EventSource(url);
    source.addEventListener("open", () => mark("", "live"));
    source.addEventListener("body", (event) => {
      mark("", "live");
      show({ id: event.lastEventId, body: event.data });
    });
    source.addEventListener("failure", (event) => mark("lost", event.data));
    source.addEventListener("error", () => {
      // The browser would ask again for what was shown at first.
      mark("lost", "reconnecting");
      const wasClosed = source?.readyState === EventSource.CLOSED;
      disconnect();
      setTimeout(connect, wasClosed ? RETRY : 1000);
    });
  };

  const toggle = () => {
    if (!pause) return;
    isPaused = !isPaused;
    if (isPaused) { disconnect(); mark("paused", "paused"); } else { connect(); mark("", "live"); }
  };

  const rows = () => [...document.querySelectorAll("main tbody tr")].filter((row) => row.querySelector("a"));
  const move = (by) => {
    const all = rows();
    const at = all.findIndex((row) => row.classList.contains("at"));
    const next = all[Math.max(0, Math.min(all.length - 1, at < 0 ? 0 : at + by))];
    if (!next) return;
    all[at]?.classList.remove("at");
    next.classList.add("at");
    next.scrollIntoView({ block: "nearest" });
  };

  let isGoing = false;
  const keys = {
    "/": () => document.querySelector("input[type=search]")?.focus(),
    j: () => move(1),
    k: () => move(-1),
    p: toggle,
    Enter: () => document.querySelector("tr.at a")?.click(),
    "?": () => document.getElementById("keys")?.showModal(),
    g: () => { isGoing = true; setTimeout(() => { isGoing = false; }, 1500); },
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") { document.activeElement?.blur(); return; }
    if (event.target.matches("input, select, textarea")) return;
    if (isGoing) {
      isGoing = false;
      const link = document.querySelector(`nav a[data-key="${CSS.escape(event.key)}"]`);
      if (link) { event.preventDefault(); link.click(); return; }
    }
    const act = keys[event.key];
    if (!act || (event.key === "Enter" && event.target.matches("a, button, summary"))) return;
    event.preventDefault();
    act();
  });

  // A search that has found nothing yet goes on.
  const search = document.querySelector("a[data-search]");
  const further = search && setTimeout(() => location.replace(search.href), 200);
  document.addEventListener("keydown", (event) => event.key === "Escape" && clearTimeout(further));

  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  document.addEventListener("focusout", () => setTimeout(() => pending && show(pending), 0));
  setInterval(() => pending && show(pending), 1000);
  document.addEventListener("selectionchange", () => pending && show(pending));
  window.addEventListener("pagehide", disconnect);
  pause?.addEventListener("click", toggle);
  setInterval(ages, 10000);
  ages();
  connect();
})();
