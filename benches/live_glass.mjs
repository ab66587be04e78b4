// Reads the clock in the pictures that a browser shows: `benches/live glass` runs this.
//   node live_glass.mjs HTTP STREAM LOGIN BASE SECONDS
// The console's own watch page plays. Each picture is drawn when the browser presents it, twenty squares of it are read as the
// bits of a time, and the time is compared with the wall clock, which is the encoder's too. The last line is one JSON object.
import { Browser } from "./browser.mjs";

const [http, stream, login, base, seconds] = process.argv.slice(2);

const GATHER = `
  const [base] = arguments;
  const video = document.querySelector(".stage video");
  const canvas = new OffscreenCanvas(640, 32);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  window.seen = [];
  window.waits = [];
  const begun = performance.now();
  // A wait with much in the buffer is the decoder's, one with little the network's.
  video.addEventListener("waiting", () => {
    const { buffered, currentTime } = video;
    const ahead = buffered.length > 0 ? buffered.end(buffered.length - 1) - currentTime : 0;
    window.waits.push({ after_s: Math.round((performance.now() - begun) / 100) / 10, ahead_s: Math.round(ahead * 100) / 100 });
  });
  const look = (now, picture) => {
    const shown_at = performance.timeOrigin + picture.expectedDisplayTime;
    pen.drawImage(video, 0, 0, video.videoWidth, 32 * video.videoHeight / 360, 0, 0, 640, 32);
    const { data } = pen.getImageData(0, 16, 640, 1);
    let hundredths = 0;
    for (let bit = 19; bit >= 0; bit--) hundredths = hundredths * 2 + (data[(bit * 32 + 16) * 4] > 127 ? 1 : 0);
    window.seen.push((shown_at / 1000 - base) - hundredths / 100);
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);`;

const browser = await Browser.start();
try {
  await browser.logs_in(http, login, "a long enough pass phrase", `/live/${stream}`);
  await browser.until("document.querySelector('.stage[data-state=playing]')");
  await browser.run(GATHER, Number(base));
  await new Promise((done) => setTimeout(done, Number(seconds) * 1_000));
  const { seen, stalls, told, waits } = await browser.run(`
    const { stalls, latency } = document.querySelector(".stage").dataset;
    return { seen: window.seen, stalls: Number(stalls), told: Number(latency), waits: window.waits };`);
  for (const { after_s, ahead_s } of waits) console.error(`waited after ${after_s} s with ${ahead_s} s in the buffer`);
  seen.sort((a, b) => a - b);
  const at = (share) => Number(seen[Math.floor((seen.length - 1) * share)].toFixed(2));
  console.log(JSON.stringify({ samples: seen.length, p5: at(0.05), p50: at(0.5), p95: at(0.95), most: at(1), stalls, told }));
} finally {
  await browser.ends();
}
