// The engine of `clan serve`: POST /predict of the server that the page is from.
"use strict";
(() => {
  const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

  // The first channel of a PNG in base 64.
  async function values(text, width, height) {
    const blob = new Blob([Uint8Array.from(atob(text), (one) => one.charCodeAt(0))], { type: "image/png" });
    const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
    const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, width, height), found = new Uint8Array(width * height);
    for (let i = 0; i < found.length; i++) found[i] = data[4 * i];
    return found;
  }

  async function ask(picture) {
    for (let attempt = 0; ; attempt++) {
      let answer;
      try {
        answer = await fetch("predict", {
          method: "POST",
          body: picture,
          headers: { "Content-Type": picture.type.startsWith("image/") ? picture.type : "application/octet-stream" },
        });
      } catch {
        throw new Error("The server does not answer: is clan serve still running?");
      }
      const found = await answer.json();
      if (answer.ok) return found;
      if (answer.status !== 503 || attempt === 5) throw new Error(found.error);
      viewer.state("waiting for others …");
      await pause(Number(answer.headers.get("Retry-After")) || 1);
    }
  }

  viewer.start({
    async predict(picture) {
      if (picture.size > 1e6 * viewer.facts.megabytes) {
        throw new Error(`The file has ${(picture.size / 1e6).toFixed(1)} MB, over the limit of ${viewer.facts.megabytes}: send a smaller one.`);
      }
      const found = await ask(picture), { width, height } = found;
      const [labels, confidence] = await Promise.all([values(found.labels, width, height), values(found.confidence, width, height)]);
      // A browser knows fewer kinds of files than the server: it shows the map alone then.
      const bitmap = await createImageBitmap(picture).catch(() => new OffscreenCanvas(width, height));
      return { width, height, labels, confidence, bitmap };
    },
  });
})();
