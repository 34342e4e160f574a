"use strict";
// The grid: rows are made only where they are looked at, answers unpacked only when asked for.
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const packed = [...document.querySelectorAll("script.part")];
  const grid = byId("grid"), card = byId("card"), find = byId("find"), inside = byId("inside"), lost = byId("lost"), split = byId("split");
  const ROW = 40, HEAD = 52, SPARE = 6;
  const make = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text; // text of models is never markup
    return node;
  };
  const told = (score) => (score === null ? "–" : (score / 1000).toFixed(3));
  const mine = data.winner, rival = data.rival; // places of the winner and the main baseline, or -1
  const worse = (row) => mine >= 0 && rival >= 0 && data.scores[mine][row] !== null && data.scores[rival][row] !== null && data.scores[mine][row] < data.scores[rival][row];
  const picked = () => (split ? split.value : "");
  const within = (row) => !picked() || data.rows[row].split === picked();
  lost.disabled = mine < 0 || rival < 0;

  const opened = new Map();
  const part = (number) => {
    if (!opened.has(number)) {
      opened.set(number, (async () => {
        const bytes = Uint8Array.from(atob(packed[number].textContent), (c) => c.charCodeAt(0));
        const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
        return JSON.parse(await new Response(stream).text());
      })());
    }
    return opened.get(number);
  };
  const cells = async (row) => (await part(Math.floor(row / data.part)))[row % data.part];

  const texts = data.rows.map((r) => [r.query, r.id, ...r.tags].join("\n").toLowerCase());
  let answers = null; // one text per row, made when answers are first searched
  let order = data.rows.map((_, i) => i);
  let sort = { column: -1, down: false };
  let at = { row: 0, column: 0 }; // row 0 is the heading, column 0 the instruction

  const head = make("div", "row head");
  head.setAttribute("role", "row");
  head.setAttribute("aria-rowindex", "1");
  const space = make("div"); // as high as all rows
  space.setAttribute("role", "presentation");
  const shownRows = new Map();

  let visible = []; // places of the prompts that have columns
  const heading = (column, place) => {
    const about = column < 0 ? null : data.columns[column];
    const button = make("button", column < 0 ? "name" : "cell", column < 0 ? "instruction" : about.role || about.label);
    button.type = "button";
    button.tabIndex = -1;
    if (about) button.title = `${about.label}: K ${about.k}, ${about.format}, temperature ${about.temperature}\n${about.system}\n${about.exemplars.join(" ")}`;
    const box = make("div");
    box.setAttribute("role", "columnheader");
    box.setAttribute("aria-colindex", String(place + 1));
    box.className = column < 0 ? "name" : "cell";
    button.className = "";
    button.style.cssText = "all:unset;display:block;width:100%;height:100%;cursor:pointer";
    button.addEventListener("click", () => { at = { row: 0, column: place }; sortBy(column); });
    box.append(button);
    return box;
  };
  grid.append(head, space);

  const prompt = (column) => (column > 0 ? visible[column - 1] : -1);
  const columnsAnew = () => { // with one split picked, prompts that have no score in it are left out
    const there = data.rows.map((_, i) => i).filter((row) => within(row));
    const wanted = data.columns.map((_, i) => i).filter((i) => !picked() || data.columns[i].role || there.some((row) => data.scores[i][row] !== null));
    if (wanted.join() === visible.join()) return;
    visible = wanted;
    if (!visible.includes(sort.column)) sort = { column: -1, down: false };
    at.column = Math.min(at.column, visible.length);
    head.replaceChildren(...[-1, ...visible].map(heading));
    grid.setAttribute("aria-colcount", String(visible.length + 1));
    grid.scrollLeft = 0;
  };

  const makeRow = (place) => {
    const row = order[place], line = make("div", "row");
    line.setAttribute("role", "row");
    line.setAttribute("aria-rowindex", String(place + 2));
    line.style.transform = `translateY(${HEAD + place * ROW}px)`;
    const name = make("div", "name");
    name.setAttribute("role", "rowheader");
    name.append(make("b", "", `${data.rows[row].id} `), data.rows[row].query.slice(0, 200));
    line.append(name);
    visible.forEach((column) => {
      const score = data.scores[column][row], cell = make("div", "cell", told(score));
      cell.setAttribute("role", "gridcell");
      if (score !== null) {
        cell.classList.add("scored");
        cell.style.setProperty("--score", String(score / 1000));
      }
      line.append(cell);
    });
    [...line.children].forEach((cell, column) => {
      cell.tabIndex = -1;
      cell.setAttribute("aria-colindex", String(column + 1));
      cell.addEventListener("click", () => { at = { row: place + 1, column }; mark(); show(row, prompt(column)); });
    });
    return line;
  };

  const draw = () => {
    const first = Math.max(0, Math.floor((grid.scrollTop - HEAD) / ROW) - SPARE);
    const last = Math.min(order.length, Math.ceil((grid.scrollTop + grid.clientHeight) / ROW) + SPARE);
    for (const [place, line] of shownRows) {
      if ((place < first || place >= last) && !line.contains(document.activeElement)) {
        line.remove();
        shownRows.delete(place);
      }
    }
    for (let place = first; place < last; place += 1) {
      if (!shownRows.has(place)) {
        const line = makeRow(place);
        shownRows.set(place, line);
        grid.append(line);
      }
    }
    mark();
  };
  const target = () => {
    const line = at.row === 0 ? head : shownRows.get(at.row - 1);
    const cell = line && line.children[at.column];
    return cell && at.row === 0 ? cell.firstChild : cell;
  };
  const mark = () => { // one stop of the Tab key for the whole grid
    grid.querySelectorAll('[tabindex="0"]').forEach((cell) => { cell.tabIndex = -1; });
    const cell = target() || head.children[0].firstChild;
    cell.tabIndex = 0;
  };
  const anew = () => {
    shownRows.forEach((line) => line.remove());
    shownRows.clear();
    space.style.height = `${order.length * ROW}px`;
    grid.setAttribute("aria-rowcount", String(order.length + 1));
    byId("count").textContent = `${order.length} of ${data.rows.length} instructions, ${visible.length} of ${data.columns.length} prompts`;
    at.row = Math.min(at.row, order.length);
    draw();
  };

  const sortBy = (column) => {
    sort = { column, down: sort.column === column ? !sort.down : column >= 0 };
    apply();
    target().focus();
  };
  const sorted = (rows) => {
    const { column, down } = sort;
    [...head.children].forEach((cell, i) => cell.setAttribute("aria-sort", prompt(i) !== column ? "none" : down ? "descending" : "ascending"));
    if (column < 0) return down ? rows.reverse() : rows;
    const scores = data.scores[column];
    return rows.sort((a, b) => {
      if (scores[a] === null || scores[b] === null) return (scores[a] === null) - (scores[b] === null) || a - b;
      return (down ? scores[b] - scores[a] : scores[a] - scores[b]) || a - b;
    });
  };
  const apply = () => {
    columnsAnew();
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const has = (row) => words.every((word) => texts[row].includes(word) || (inside.checked && answers && answers[row].includes(word)));
    order = sorted(data.rows.map((_, i) => i).filter((row) => has(row) && (!lost.checked || worse(row)) && within(row)));
    grid.scrollTop = 0;
    anew();
  };
  const search = async () => {
    if (inside.checked && !answers) {
      byId("count").textContent = "opening the answers …";
      try {
        const parts = await Promise.all(packed.map((_, i) => part(i)));
        answers = parts.flat().map((row) => row.map((cell) => (cell && cell[0]) || "").join("\n").toLowerCase());
      } catch (error) {
        inside.checked = false;
        byId("count").textContent = `this browser cannot open the answers (${error.message})`;
        return;
      }
    }
    apply();
  };

  const show = async (row, column) => {
    const about = data.rows[row], body = byId("card-body");
    byId("card-title").textContent = `${about.id} (${about.split})`;
    body.replaceChildren(make("pre", "", about.query));
    if (about.tags.length) body.append(make("p", "quiet said", about.tags.join(", ")));
    if (!card.open) card.showModal();
    let found;
    try {
      found = await cells(row);
    } catch (error) {
      body.append(make("p", "", `this browser cannot open the answers (${error.message})`));
      return;
    }
    const columns = data.columns.map((_, i) => i);
    const wanted = [column, mine, rival].filter((i) => i >= 0);
    for (const i of [...new Set([...wanted, ...columns])]) {
      const cell = found[i], about = data.columns[i];
      if (!cell) continue;
      body.append(make("h3", "said", `${told(data.scores[i][row])}  ${about.role ? `${about.role}, ` : ""}${about.label}`));
      body.append(make("pre", "", cell[0] === null ? "(the ledger does not have the answer)" : cell[0]));
      const aspects = Object.entries(cell[2]).map(([name, value]) => `${name} ${value.toFixed(2)}`).join(", ");
      const note = [cell[1], aspects].filter(Boolean).join("; ");
      if (note) body.append(make("p", "quiet said", note));
    }
    body.querySelectorAll("pre").forEach((pre) => { pre.tabIndex = 0; });
  };
  card.addEventListener("close", () => { const cell = target(); if (cell) cell.focus(); });
  byId("close").addEventListener("click", () => card.close());

  const go = (row, column) => {
    at = { row: Math.max(0, Math.min(order.length, row)), column: Math.max(0, Math.min(visible.length, column)) };
    if (at.row > 0) {
      const top = (at.row - 1) * ROW, high = grid.clientHeight - HEAD;
      if (top < grid.scrollTop) grid.scrollTop = top;
      else if (top + ROW > grid.scrollTop + high) grid.scrollTop = top + ROW - high;
    }
    draw();
    const cell = target();
    cell.focus({ preventScroll: true });
    if (at.column > 0) {
      const box = cell.getBoundingClientRect(), edge = head.children[0].getBoundingClientRect().right, end = grid.getBoundingClientRect().right;
      if (box.left < edge) grid.scrollLeft -= edge - box.left;
      else if (box.right > end - 16) grid.scrollLeft += box.right - end + 16;
    } else grid.scrollLeft = 0;
  };
  grid.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(grid.clientHeight / ROW) - 2);
    const moves = {
      ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1],
      PageDown: [page, 0], PageUp: [-page, 0],
      Home: event.ctrlKey ? [-at.row, -at.column] : [0, -at.column],
      End: event.ctrlKey ? [order.length, visible.length] : [0, visible.length],
    };
    const move = moves[event.key];
    if (move) {
      event.preventDefault();
      go(at.row + move[0], at.column + move[1]);
    } else if ((event.key === "Enter" || event.key === " ") && at.row > 0) {
      event.preventDefault();
      show(order[at.row - 1], prompt(at.column));
    }
  });

  let waiting = 0;
  find.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 120); });
  inside.addEventListener("change", search);
  lost.addEventListener("change", apply);
  if (split) split.addEventListener("change", apply);
  grid.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  addEventListener("resize", draw);
  apply();
})();
