// What is behind a heading opens when a link leads there; a point of a picture tells its values. Without this script the
// page is complete.
(() => {
  const opened = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    const first = target.querySelector(":scope > details");
    if (first) first.open = true;
    target.scrollIntoView();
  };
  window.addEventListener("hashchange", opened);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (link && link.hash === location.hash) opened(); // the address stays, so nobody else notices
  });
  opened();

  const NEAR = 18; // pixels around the pointer in which a point is found
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  document.body.append(tip);

  window.selbenchTip = (x, y, lines) => {
    tip.hidden = !lines;
    if (!lines) return;
    tip.replaceChildren(...lines.map((line) => (line instanceof Node ? line : element("span", line))));
    const { width, height } = tip.getBoundingClientRect();
    const left = x + 14 + width > innerWidth ? x - 14 - width : x + 14;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 12, innerHeight - height - 4))}px`;
  };

  addEventListener("pointerdown", (event) => {
    if (!event.target.closest("svg, canvas")) selbenchTip(0, 0, null);
  });

  for (const script of document.querySelectorAll("script.told")) {
    const svg = script.previousElementSibling;
    const series = JSON.parse(script.textContent);
    const wide = svg.viewBox.baseVal.width;
    const mark = document.createElementNS(svg.namespaceURI, "g");
    mark.setAttribute("class", "mark");
    svg.append(mark);

    const nearest = (event) => {
      const box = svg.getBoundingClientRect();
      const scale = wide / box.width;
      const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
      let best = null, least = (NEAR * scale) ** 2;
      for (const one of series) {
        for (const [px, py, text] of one.at) {
          const distance = (px - x) ** 2 + (py - y) ** 2;
          if (distance < least) [best, least] = [{ one, px, py, text }, distance];
        }
      }
      return best;
    };

    const show = (event) => {
      const best = nearest(event);
      mark.replaceChildren();
      svg.style.cursor = best && best.one.link ? "pointer" : "";
      if (!best) return selbenchTip(0, 0, null);
      for (const one of series) {
        if (one.name !== best.one.name) continue;
        const line = document.createElementNS(svg.namespaceURI, "polyline");
        line.setAttribute("points", one.at.map(([x, y]) => `${x},${y}`).join(" "));
        mark.append(line);
      }
      const dot = document.createElementNS(svg.namespaceURI, "circle");
      for (const [name, value] of [["cx", best.px], ["cy", best.py], ["r", 4.5]]) dot.setAttribute(name, value);
      mark.append(dot);
      selbenchTip(event.clientX, event.clientY, [element("b", best.one.name), ...best.text.split("\n")]);
    };

    svg.addEventListener("pointermove", show);
    svg.addEventListener("pointerdown", show);
    svg.addEventListener("pointerleave", (event) => {
      if (event.pointerType !== "mouse") return; // a finger leaves as soon as it has tapped
      mark.replaceChildren();
      selbenchTip(0, 0, null);
    });
    svg.addEventListener("click", (event) => {
      const best = nearest(event);
      if (best && best.one.link) location.hash = best.one.link;
    });
  }

  function element(tag, text) {
    const made = document.createElement(tag);
    made.textContent = text;
    return made;
  }

  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("section > details")) {
      details.dataset.was = details.open ? "open" : "";
      details.open = true;
    }
  });
  addEventListener("afterprint", () => {
    for (const details of document.querySelectorAll("section > details")) details.open = details.dataset.was === "open";
  });
})();
