// The map of images: colour by what is asked for, thumbnails under the pointer, and a lasso. What it shows lies beside it
// as JSON; without this script a sentence stands in its place, and the same map as a picture further down.
(() => {
  const COLOURS = ["#0173b2", "#e69f00", "#019e73", "#d55f00", "#cc79a7", "#56b4e9", "#8c6d01", "#5e4fa2", "#e41a1c", "#6b6b6b"];
  const SHAPES = 4;
  const GREY = "#9a9a9a";
  const SHOWN = 60; // thumbnails of a lasso

  for (const root of document.querySelectorAll(".map")) make(root, JSON.parse(root.querySelector("script").textContent));

  function unpack(text, Type) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Type(bytes.buffer);
  }

  function read(group) {
    const count = group.count;
    return {
      ...group,
      xy: unpack(group.points, Uint16Array),
      classes: unpack(group.classes, Int16Array),
      clusters: unpack(group.clusters, Int16Array),
      predicted: unpack(group.predicted, Int16Array),
      confidence: unpack(group.confidence, Uint8Array),
      rounds: group.rounds ? unpack(group.rounds, Int16Array) : new Int16Array(count).fill(-1),
      tiles: unpack(group.tiles, Int32Array),
      names: group.names ? group.names.map((name) => group.prefix + name) : null,
    };
  }

  function make(root, data) {
    const sheets = data.sheets.map((source) => {
      const image = new Image();
      image.src = source;
      return image;
    });
    const base = read(data.base), layers = data.layers.map(read);
    const find = (selector) => root.querySelector(selector);
    const canvas = find("canvas"), ink = canvas.getContext("2d"), legend = find(".legend"), chosen = find(".chosen");
    const dots = document.createElement("canvas"), brush = dots.getContext("2d");
    const by = find("[name=by]"), layer = find("[name=layer]");
    const span = [0, 1].map((axis) => {
      let low = 65535, high = 0;
      for (const { xy } of [base, ...layers]) for (let at = axis; at < xy.length; at += 2) [low, high] = [Math.min(low, xy[at]), Math.max(high, xy[at])];
      return Math.max(0.01, (high - low) / 65535);
    });
    let points = [], view = { x: 0, y: 0, scale: 1 }, chip = null, lasso = null, near = -1;
    let cells = new Map(), picked = [];

    function gather() {
      const groups = [base, ...(layers.length ? [layers[Number(layer.value) || 0]] : [])];
      points = groups.flatMap((group) => Array.from({ length: group.count }, (_, k) => ({ group, k })));
      cells = new Map();
      points.forEach((point, number) => {
        point.x = point.group.xy[2 * point.k] / 65535;
        point.y = 1 - point.group.xy[2 * point.k + 1] / 65535;
        const cell = `${Math.floor(point.x * 64)},${Math.floor(point.y * 64)}`;
        if (!cells.has(cell)) cells.set(cell, []);
        cells.get(cell).push(number);
      });
      picked = [];
      near = -1;
      tellChosen();
      selbenchTip(0, 0, null);
      recolour();
    }

    // [number of the colour or -1, name of the kind] of a point
    function kind({ group, k }) {
      if (by.value === "class") return [group.classes[k], data.classes[group.classes[k]] ?? "class unknown"];
      if (by.value === "cluster") return [group.clusters[k], `cluster ${group.clusters[k] + 1}`];
      if (by.value === "pick") {
        const round = group.rounds[k];
        return round < 0 ? [-1, "not labelled"] : [round, round ? `round ${round}` : "start pool"];
      }
      const truth = group.classes[k], told = group.predicted[k];
      if (truth < 0 || told < 0) return [-1, "not known"];
      return truth === told ? [0, "right"] : [3, "wrong"];
    }

    function recolour() {
      const kinds = new Map();
      for (const point of points) {
        [point.number, point.kind] = kind(point);
        kinds.set(point.kind, [point.number, (kinds.get(point.kind)?.[1] ?? 0) + 1]);
      }
      chip = null;
      legend.replaceChildren(...[...kinds].sort((a, b) => a[1][0] - b[1][0]).map(([name, [number, count]]) => {
        const button = element("button", `${name} (${count.toLocaleString("en")})`);
        button.type = "button";
        button.style.setProperty("--dot", colour(number));
        button.dataset.shape = shape(number);
        button.addEventListener("click", () => {
          chip = chip === name ? null : name;
          for (const other of legend.children) other.setAttribute("aria-pressed", String(other === button && chip === name));
          paint();
        });
        return button;
      }));
      paint();
    }

    function colour(number) {
      return number < 0 ? GREY : COLOURS[number % COLOURS.length];
    }

    function shape(number) {
      return by.value === "class" || by.value === "cluster" ? Math.max(0, Math.floor(number / COLOURS.length)) % SHAPES : 0;
    }

    // the side of the square of all places, so long that the points just fit
    function length() {
      return Math.min((canvas.clientWidth - 24) / span[0], (canvas.clientHeight - 24) / span[1]);
    }

    function place(point) {
      const side = length(), left = (canvas.clientWidth - side) / 2, top = (canvas.clientHeight - side) / 2;
      return [left + ((point.x - view.x) * view.scale) * side, top + ((point.y - view.y) * view.scale) * side];
    }

    function unplace(x, y) {
      const side = length(), left = (canvas.clientWidth - side) / 2, top = (canvas.clientHeight - side) / 2;
      return [(x - left) / side / view.scale + view.x, (y - top) / side / view.scale + view.y];
    }

    function dot(x, y, size, form) {
      brush.beginPath();
      if (form === 0) brush.arc(x, y, size, 0, 7);
      else if (form === 1) brush.rect(x - size, y - size, 2 * size, 2 * size);
      else if (form === 2) brush.moveTo(x, y - 1.3 * size), brush.lineTo(x + 1.2 * size, y + size), brush.lineTo(x - 1.2 * size, y + size);
      else brush.moveTo(x, y - 1.4 * size), brush.lineTo(x + 1.4 * size, y), brush.lineTo(x, y + 1.4 * size), brush.lineTo(x - 1.4 * size, y);
      brush.fill();
    }

    // all points, anew: on another canvas, so that what is marked can change without them
    function paint() {
      const ratio = devicePixelRatio || 1;
      dots.width = canvas.width = canvas.clientWidth * ratio;
      dots.height = canvas.height = canvas.clientHeight * ratio;
      brush.setTransform(ratio, 0, 0, ratio, 0, 0);
      const many = points.length > 8000;
      // what is unknown or not asked for lies below the rest
      for (const above of [false, true]) {
        for (const point of points) {
          const dim = chip !== null && point.kind !== chip;
          if ((point.number >= 0 && !dim) !== above) continue;
          const [x, y] = place(point), size = radius();
          if (x < -9 || y < -9 || x > canvas.clientWidth + 9 || y > canvas.clientHeight + 9) continue;
          brush.globalAlpha = dim ? 0.12 : above ? 0.85 : 0.4;
          brush.fillStyle = colour(point.number);
          if (many) brush.fillRect(x - size, y - size, 2 * size, 2 * size);
          else dot(x, y, size, shape(point.number));
        }
      }
      draw();
    }

    function radius() {
      return Math.max(1, Math.min(4.5, 130 / Math.sqrt(points.length))) * Math.min(2, view.scale ** 0.4);
    }

    function draw() {
      const ratio = devicePixelRatio || 1;
      ink.setTransform(1, 0, 0, 1, 0, 0);
      ink.clearRect(0, 0, canvas.width, canvas.height);
      if (dots.width && dots.height) ink.drawImage(dots, 0, 0);
      ink.setTransform(ratio, 0, 0, ratio, 0, 0);
      ink.strokeStyle = getComputedStyle(root).color;
      ink.lineWidth = 1.5;
      for (const number of [...picked, ...(near >= 0 ? [near] : [])]) {
        const [x, y] = place(points[number]);
        ink.beginPath();
        ink.arc(x, y, radius() + (number === near ? 4 : 1.5), 0, 7);
        ink.stroke();
      }
      if (lasso) {
        ink.beginPath();
        lasso.forEach(([x, y], k) => (k ? ink.lineTo(x, y) : ink.moveTo(x, y)));
        ink.closePath();
        ink.stroke();
      }
    }

    function nearest(x, y) {
      const [u, v] = unplace(x, y), reach = Math.ceil((64 * 14) / (length() * view.scale)) + 1;
      let best = -1, least = 14 ** 2;
      for (let i = -reach; i <= reach; i++) {
        for (let j = -reach; j <= reach; j++) {
          for (const number of cells.get(`${Math.floor(u * 64) + i},${Math.floor(v * 64) + j}`) ?? []) {
            const [px, py] = place(points[number]), distance = (px - x) ** 2 + (py - y) ** 2;
            if (distance < least && (chip === null || points[number].kind === chip)) [best, least] = [number, distance];
          }
        }
      }
      return best;
    }

    function thumbnail({ group, k }, side) {
      const tile = group.tiles[k], made = document.createElement("canvas");
      if (tile < 0) return null;
      const [w, h] = [group.width, group.height];
      const scale = side / Math.max(w, h);
      [made.width, made.height] = [Math.round(w * scale), Math.round(h * scale)];
      const brush = made.getContext("2d");
      brush.imageSmoothingEnabled = false;
      brush.drawImage(sheets[group.sheet], (tile % data.columns) * w, Math.floor(tile / data.columns) * h, w, h, 0, 0, made.width, made.height);
      return made;
    }

    function said({ group, k }) {
      const truth = data.classes[group.classes[k]], told = data.classes[group.predicted[k]];
      const sure = group.confidence[k] === 255 ? "" : ` (${(group.confidence[k] / 2.54).toFixed(0)} %)`;
      const round = group.rounds[k];
      return [
        group.names?.[k],
        truth,
        told && told !== truth ? `taken for ${told}${sure}` : told && `recognised${sure}`,
        round > 0 ? `picked in round ${round} by ${group.label}` : round === 0 && "start pool",
        `cluster ${group.clusters[k] + 1}`,
      ].filter(Boolean);
    }

    function inside([x, y], polygon) {
      let is = false;
      for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
        const [[a, b], [c, d]] = [polygon[i], polygon[j]];
        if (b > y !== d > y && x < ((c - a) * (y - b)) / (d - b) + a) is = !is;
      }
      return is;
    }

    function tellChosen() {
      chosen.hidden = !picked.length;
      if (!picked.length) return;
      const counts = new Map();
      for (const number of picked) counts.set(points[number].kind, (counts.get(points[number].kind) ?? 0) + 1);
      const most = [...counts].sort((a, b) => b[1] - a[1]).map(([name, count]) => `${count} ${name}`);
      find(".chosen p").textContent = `${picked.length.toLocaleString("en")} in the lasso: ${most.join(", ")}`;
      find(".chosen ul").replaceChildren(...picked.slice(0, SHOWN).map((number) => {
        const item = document.createElement("li"), picture = thumbnail(points[number], 48), lines = said(points[number]);
        item.title = lines.join("\n");
        item.append(picture ?? element("span", lines[0]));
        return item;
      }));
      const names = picked.map((number) => points[number].group.names?.[points[number].k]).filter(Boolean);
      const list = find(".chosen textarea");
      list.hidden = !names.length;
      list.value = names.join("\n");
    }

    function at(event) {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    }

    let from = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.pointerType !== "mouse" && !root.classList.contains("lassoing")) return hover(event);
      canvas.setPointerCapture(event.pointerId);
      from = [at(event), { ...view }];
      lasso = event.shiftKey ? null : [at(event)];
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!from) return hover(event);
      selbenchTip(0, 0, null);
      if (lasso) lasso.push(at(event));
      else {
        const side = length() * view.scale, [x, y] = at(event);
        view = { ...view, x: from[1].x - (x - from[0][0]) / side, y: from[1].y - (y - from[0][1]) / side };
        paint();
      }
      draw();
    });
    canvas.addEventListener("pointerup", () => {
      if (lasso) {
        picked = lasso.length < 4 ? [] : points.flatMap((point, number) =>
          (chip === null || point.kind === chip) && inside(place(point), lasso) ? [number] : []);
        tellChosen();
      }
      from = lasso = null;
      draw();
    });
    canvas.addEventListener("pointerleave", (event) => {
      if (event.pointerType !== "mouse") return;
      near = -1;
      selbenchTip(0, 0, null);
      draw();
    });

    function hover(event) {
      const before = near;
      near = nearest(...at(event));
      if (near !== before) draw();
      if (near < 0) return selbenchTip(0, 0, null);
      const picture = thumbnail(points[near], 112);
      selbenchTip(event.clientX, event.clientY, [...(picture ? [picture] : []), ...said(points[near])]);
    }

    function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
      const before = unplace(x, y);
      view.scale = Math.max(1, Math.min(200, view.scale * factor));
      const after = unplace(x, y);
      view.x += before[0] - after[0];
      view.y += before[1] - after[1];
      if (view.scale === 1) view = { x: 0, y: 0, scale: 1 };
      paint();
    }

    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return; // else the page scrolls
      event.preventDefault();
      zoom(event.deltaY < 0 ? 1.25 : 0.8, ...at(event));
    }, { passive: false });
    find(".in").addEventListener("click", () => zoom(1.6));
    find(".out").addEventListener("click", () => zoom(1 / 1.6));
    find(".lasso").addEventListener("click", (event) => {
      event.target.setAttribute("aria-pressed", String(root.classList.toggle("lassoing")));
    });
    by.addEventListener("change", recolour);
    layer.addEventListener("change", () => {
      if (by.value !== "pick") by.value = "pick";
      gather();
    });
    new ResizeObserver(paint).observe(canvas);
    gather();
  }

  function element(tag, text) {
    const made = document.createElement(tag);
    made.textContent = text;
    return made;
  }
})();
