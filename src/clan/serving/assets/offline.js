// The engine of a page without a server: ONNX Runtime's WebAssembly and the network lie in the page, packed by gzip.
"use strict";
(() => {
  const { facts } = viewer;
  const { mean, std, order } = facts.input;
  const BITS = 2 ** 22;  // of Pillow's weights

  async function unpacked(id) {
    const element = document.getElementById(id), text = element.textContent;
    element.remove();  // the text is not needed again
    const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  }

  let session = null;
  async function load() {
    const address = URL.createObjectURL(new Blob([await unpacked("runtime")], { type: "text/javascript" }));
    const ort = await import(address);
    ort.env.wasm.numThreads = 1;  // more would need a server's headers
    ort.env.wasm.proxy = false;
    ort.env.wasm.wasmBinary = await unpacked("wasm");
    const network = new Uint8Array(await unpacked("network"));
    return { ort, run: await ort.InferenceSession.create(network, { executionProviders: ["wasm"] }) };
  }

  // --- Resizing as Pillow does it: bicubic, antialiased, rounded to 8 bits along each axis

  function cubic(x) {
    const a = -0.5;
    x = Math.abs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
  }

  function taps(before, after) {
    const scale = before / after, stretch = Math.max(1, scale), reach = 2 * stretch;
    return Array.from({ length: after }, (_, index) => {
      const center = (index + 0.5) * scale;
      const first = Math.max(0, Math.trunc(center - reach + 0.5)), last = Math.min(before, Math.trunc(center + reach + 0.5));
      const weights = Array.from({ length: last - first }, (_, k) => cubic((first + k - center + 0.5) / stretch));
      const sum = weights.reduce((x, y) => x + y, 0);
      return { first, weights: weights.map((one) => Math.trunc((one / sum) * BITS + Math.sign(one) * 0.5)) };
    });
  }

  // Channels one after the other, each `rows` · `length` numbers: along the second axis.
  function alongRows(values, rows, length, target) {
    if (length === target) return values;
    const found = new Uint8ClampedArray(rows * target), all = taps(length, target);
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < target; x++) {
        const { first, weights } = all[x], start = y * length + first;
        let sum = BITS / 2;
        for (let k = 0; k < weights.length; k++) sum += values[start + k] * weights[k];
        found[y * target + x] = Math.floor(sum / BITS);
      }
    }
    return found;
  }

  function alongColumns(values, rows, length, target) {
    if (rows === target) return values;
    const found = new Uint8ClampedArray(target * length), all = taps(rows, target);
    for (let y = 0; y < target; y++) {
      const { first, weights } = all[y];
      for (let x = 0; x < length; x++) {
        let sum = BITS / 2;
        for (let k = 0; k < weights.length; k++) sum += values[(first + k) * length + x] * weights[k];
        found[y * length + x] = Math.floor(sum / BITS);
      }
    }
    return found;
  }

  // Width and height that the network sees: see `same_area` of clan.evaluation.model.
  function seen(width, height) {
    const area = facts.input.size[0] * facts.input.size[1], scale = Math.sqrt(area / (width * height));
    const longest = Math.max(16, Math.floor(Math.floor(area / 16) / 8) * 8);
    return [width, height].map((side) => Math.min(Math.max(16, 8 * Math.round((side * scale) / 8)), longest));
  }

  function planes(data, width, height, [w, h]) {
    const input = new Float32Array(3 * w * h), one = new Uint8ClampedArray(width * height);
    order.forEach((channel, place) => {
      for (let i = 0; i < one.length; i++) one[i] = data[4 * i + channel];
      const small = alongColumns(alongRows(one, height, width, w), height, w, h);
      for (let i = 0; i < small.length; i++) input[place * w * h + i] = (small[i] - mean[channel]) / std[channel];
    });
    return input;
  }

  // --- From coarse logits to maps of full size, by bilinear interpolation

  function steps(coarse, fine) {
    return Array.from({ length: fine }, (_, i) => {
      const place = facts.alignCorners
        ? fine > 1 ? (i * (coarse - 1)) / (fine - 1) : 0
        : Math.max(0, ((i + 0.5) * coarse) / fine - 0.5);
      const before = Math.min(Math.floor(place), coarse - 1);
      return [before, Math.min(before + 1, coarse - 1), place - before];
    });
  }

  function maps(logits, [, heads, classes, a, b], width, height) {
    const total = new Float32Array(classes * a * b);
    for (let k = 0; k < heads * total.length; k++) total[k % total.length] += logits[k];
    const labels = new Uint8Array(width * height), confidence = new Uint8Array(width * height);
    const rows = steps(a, height), columns = steps(b, width), line = new Float32Array(classes * b), here = new Float32Array(classes);
    for (let y = 0; y < height; y++) {
      const [above, below, down] = rows[y];
      for (let c = 0; c < classes; c++) {
        for (let x = 0; x < b; x++) {
          line[c * b + x] = total[(c * a + above) * b + x] * (1 - down) + total[(c * a + below) * b + x] * down;
        }
      }
      for (let x = 0; x < width; x++) {
        const [left, right, along] = columns[x];
        let best = 0, sum = 0;
        for (let c = 0; c < classes; c++) {
          here[c] = line[c * b + left] * (1 - along) + line[c * b + right] * along;
          if (here[c] > here[best]) best = c;
        }
        for (let c = 0; c < classes; c++) sum += Math.exp(here[c] - here[best]);
        labels[y * width + x] = best;
        confidence[y * width + x] = Math.round(255 / sum);
      }
    }
    return { labels, confidence };
  }

  viewer.start({
    async predict(picture) {
      let bitmap = await createImageBitmap(picture, { colorSpaceConversion: "none" }).catch(() => null);
      if (!bitmap) throw new Error("The browser cannot open this file: save it as PNG or JPEG and drop that.");
      const shrink = Math.min(1, Math.sqrt((1e6 * facts.megapixels) / (bitmap.width * bitmap.height)));
      const width = Math.max(1, Math.round(bitmap.width * shrink)), height = Math.max(1, Math.round(bitmap.height * shrink));
      if (shrink < 1) bitmap = await createImageBitmap(bitmap, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
      const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d", { willReadFrequently: true });
      context.fillRect(0, 0, width, height);
      context.drawImage(bitmap, 0, 0);
      const { data } = context.getImageData(0, 0, width, height), [w, h] = seen(width, height);
      if (!session) {
        viewer.state("loading the network …");
        session = load();
      }
      const { ort, run } = await session;
      viewer.state("segmenting …");
      await new Promise((done) => setTimeout(done, 20));  // so that the text is seen
      const input = new ort.Tensor("float32", planes(data, width, height, [w, h]), [1, 3, h, w]);
      const { [run.outputNames[0]]: logits } = await run.run({ [run.inputNames[0]]: input });
      return { width, height, bitmap, ...maps(logits.data, logits.dims, width, height) };
    },
  });
})();
