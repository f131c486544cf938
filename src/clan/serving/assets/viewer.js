// Shows what an engine makes of pictures. An engine has `predict(picture)`: a file → {width, height, labels, confidence,
// bitmap}, the two maps as Uint8Array of width · height numbers, the bitmap upright and of that size.
"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const facts = JSON.parse(at("facts").textContent);
  const colors = facts.classes.map(({ color }) => [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16)));
  const heat = Array.from({ length: 256 }, (_, i) => [0, 2, 4].map((j) => parseInt(facts.heat.slice(6 * i + j, 6 * i + j + 2), 16)));
  const on = facts.classes.map(() => true);
  let engine = null, shown = null, name = "picture", stream = null, turn = 0;

  const state = (text) => { at("state").textContent = text; };
  const complain = (text) => { at("error").textContent = text; at("error").hidden = !text; };

  // --- Legend and scale

  facts.classes.forEach((one, id) => {
    const item = document.createElement("li"), label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
    box.addEventListener("change", () => { on[id] = box.checked; draw(); });
    const swatch = Object.assign(document.createElement("span"), { className: "swatch" });
    swatch.style.background = one.color;
    const text = Object.assign(document.createElement("span"), { className: "name", textContent: one.name });
    const share = Object.assign(document.createElement("span"), { className: "share" });
    label.append(box, swatch, text, share);
    item.append(label);
    at("legend").append(item);
  });
  const items = [...at("legend").children];
  const switchAll = (value) => {
    on.fill(value);
    items.forEach((item) => { item.querySelector("input").checked = value; });
    draw();
  };
  at("all").addEventListener("click", () => switchAll(true));
  at("none").addEventListener("click", () => switchAll(false));
  const bar = at("heat").getContext("2d");
  heat.forEach(([r, g, b], x) => { bar.fillStyle = `rgb(${r} ${g} ${b})`; bar.fillRect(x, 0, 1, 1); });

  // --- Drawing

  const view = () => document.querySelector("input[name=view]:checked").value;

  function pixels(kind, opacity) {
    const { width, height, labels, confidence } = shown;
    const image = new ImageData(width, height), words = new Uint32Array(image.data.buffer);
    const table = new Uint32Array(256);
    const little = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
    const word = ([r, g, b], a) => (little ? (a << 24) | (b << 16) | (g << 8) | r : (r << 24) | (g << 16) | (b << 8) | a) >>> 0;
    if (kind === "confidence") heat.forEach((rgb, i) => { table[i] = word(rgb, opacity); });
    else colors.forEach((rgb, i) => { table[i] = on[i] ? word(rgb, opacity) : 0; });
    const values = kind === "confidence" ? confidence : labels;
    for (let i = 0; i < values.length; i++) words[i] = table[values[i]];
    return image;
  }

  function draw() {
    if (!shown) return;
    const canvas = at("overlay");
    canvas.width = shown.width;
    canvas.height = shown.height;
    canvas.getContext("2d").putImageData(pixels(view(), Math.round(2.55 * at("opacity").value)), 0, 0);
    at("classes").hidden = view() !== "classes";
    at("scale").hidden = view() !== "confidence";
  }

  function show(found) {
    shown = found;
    const canvas = at("picture");
    canvas.width = found.width;
    canvas.height = found.height;
    at("stage").style.setProperty("--wide", found.width / found.height);
    canvas.getContext("2d").drawImage(found.bitmap, 0, 0, found.width, found.height);
    const counts = new Array(256).fill(0);
    for (const id of found.labels) counts[id]++;
    items.forEach((item, id) => {
      const share = counts[id] / found.labels.length;
      item.classList.toggle("absent", !counts[id]);
      item.querySelector(".share").textContent = share ? `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %` : "–";
    });
    let sum = 0;
    for (const value of found.confidence) sum += value;
    at("mean").textContent = `mean ${(sum / found.confidence.length / 255).toFixed(2)}`;
    document.body.classList.remove("empty");
    at("result").hidden = false;
    draw();
  }

  const split = () => at("stage").style.setProperty("--split", `${at("split").value}%`);
  at("split").addEventListener("input", split);
  at("opacity").addEventListener("input", draw);
  document.querySelectorAll("input[name=view]").forEach((one) => one.addEventListener("change", draw));
  split();

  // --- Pictures

  async function segment(picture, title) {
    const own = ++turn;
    complain("");
    state("segmenting …");
    const began = performance.now();
    try {
      const found = await engine.predict(picture);
      if (own !== turn) return;
      name = title;
      show(found);
      state(`${found.width}×${found.height}, ${((performance.now() - began) / 1000).toFixed(2)} s`);
    } catch (error) {
      if (own !== turn) return;
      state("");
      complain(error.message);
      stop();
    }
  }

  const take = (files) => {
    stop();
    if (files.length) segment(files[0], files[0].name.replace(/\.[^.]*$/, "") || "picture");
  };
  at("file").addEventListener("change", () => { take([...at("file").files]); at("file").value = ""; });
  let over = 0;
  const drop = at("drop");
  addEventListener("dragenter", (event) => { event.preventDefault(); over++; drop.classList.add("over"); });
  addEventListener("dragleave", () => { over = Math.max(0, over - 1); drop.classList.toggle("over", over > 0); });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    over = 0;
    drop.classList.remove("over");
    if (event.dataTransfer.files.length) take([...event.dataTransfer.files]);
    else complain("What was dropped is no file: save the picture first, then drop its file.");
  });
  addEventListener("paste", (event) => { if (event.clipboardData.files.length) take([...event.clipboardData.files]); });

  // --- Webcam

  function stop() {
    if (!stream) return;
    stream.getTracks().forEach((track) => track.stop());
    stream = null;
    at("camera").textContent = "Use the webcam";
  }

  async function film() {
    if (stream) { stop(); return; }
    if (!navigator.mediaDevices) {
      complain("The browser gives the webcam to pages of this computer alone: open the page at localhost.");
      return;
    }
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1024 } }, audio: false });
    } catch (error) {
      complain(`There is no webcam, or its use was not allowed (${error.message}).`);
      return;
    }
    at("camera").textContent = "Stop the webcam";
    const video = at("video"), canvas = document.createElement("canvas"), own = stream;
    video.srcObject = own;
    await video.play();
    while (stream === own) {
      canvas.width = video.videoWidth;
      canvas.height = video.videoHeight;
      canvas.getContext("2d").drawImage(video, 0, 0);
      const frame = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
      await segment(frame, "webcam");
    }
  }
  at("camera").addEventListener("click", film);

  // --- Downloads

  const crcs = Uint32Array.from({ length: 256 }, (_, n) => {
    for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
    return n;
  });

  function chunk(kind, data) {
    const bytes = new Uint8Array(12 + data.length), numbers = new DataView(bytes.buffer);
    numbers.setUint32(0, data.length);
    bytes.set([...kind].map((one) => one.charCodeAt(0)), 4);
    bytes.set(data, 8);
    let crc = ~0;
    for (let i = 4; i < bytes.length - 4; i++) crc = crcs[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
    numbers.setUint32(bytes.length - 4, ~crc >>> 0);
    return bytes;
  }

  // An 8-bit grey PNG: a canvas would write four channels.
  async function grey(values, width, height) {
    const rows = new Uint8Array(height * (width + 1));
    for (let y = 0; y < height; y++) rows.set(values.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
    const packed = new Response(new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate")));
    const header = new Uint8Array(13), numbers = new DataView(header.buffer);
    numbers.setUint32(0, width);
    numbers.setUint32(4, height);
    header.set([8, 0, 0, 0, 0], 8);
    const signature = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]);
    const data = new Uint8Array(await packed.arrayBuffer());
    return new Blob([signature, chunk("IHDR", header), chunk("IDAT", data), chunk("IEND", new Uint8Array())], { type: "image/png" });
  }

  async function drawn(kind) {
    const { width, height } = shown, canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
    const layer = new OffscreenCanvas(width, height);
    layer.getContext("2d").putImageData(pixels(kind === "colors" ? "classes" : view(), kind === "colors" ? 255 : Math.round(2.55 * at("opacity").value)), 0, 0);
    if (kind === "overlay") context.drawImage(at("picture"), 0, 0);
    context.drawImage(layer, 0, 0);
    return canvas.convertToBlob({ type: "image/png" });
  }

  async function file(kind) {
    const { width, height, labels, confidence } = shown;
    if (kind === "labels") return grey(labels, width, height);
    if (kind === "confidence") return grey(confidence, width, height);
    return drawn(kind);
  }

  document.querySelectorAll(".download").forEach((button) => button.addEventListener("click", async () => {
    const link = document.createElement("a"), content = await file(button.value);
    link.href = URL.createObjectURL(content);
    link.download = `${name}_${button.value}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }));

  window.viewer = {
    facts,
    file,
    start(given) { engine = given; },
    state,
    complain,
    get shown() { return shown; },
  };
})();
