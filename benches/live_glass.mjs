// Reads the clock in the pictures that a browser shows: `benches/live glass` runs this.
//   node live_glass.mjs HTTP STREAM LOGIN BASE SECONDS
// The console's own watch page plays. Each picture is drawn when the browser presents it, twenty squares of it are read as the
// bits of a time, and the time is compared with the wall clock, which is the encoder's too. The last line is one JSON object.
import { spawn } from "node:child_process";

const [http, stream, login, base, seconds] = process.argv.slice(2);
const driver = spawn("chromedriver", ["--port=0"], { stdio: ["ignore", "pipe", "ignore"] });
const port = await new Promise((found) => {
  let text = "";
  driver.stdout.on("data", (bytes) => {
    text += bytes;
    const port = /started successfully on port (\d+)/.exec(text)?.[1];
    if (port) found(port);
  });
});
const call = async (method, path, body) => {
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method, ...(body ? { body: JSON.stringify(body), headers: { "content-type": "application/json" } } : {}) });
  const { value } = await answer.json();
  if (value?.error) throw new Error(`${value.error}: ${value.message}`);
  return value;
};
const args = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required", "--window-size=1280,900"];
const { sessionId } = await call("POST", "/session", { capabilities: { alwaysMatch: { browserName: "chrome", "goog:chromeOptions": { args } } } });
const session = `/session/${sessionId}`;
const run = (script, ...args) => call("POST", `${session}/execute/sync`, { script, args });
const until = async (expression, limit_ms = 30_000) => {
  const deadline = Date.now() + limit_ms;
  while (!(await run(`return ${expression}`))) {
    if (Date.now() > deadline) throw new Error(`never came true: ${expression}`);
    await new Promise((go_on) => setTimeout(go_on, 100));
  }
};

const GATHER = `
  const [base] = arguments;
  const video = document.querySelector(".stage video");
  const canvas = new OffscreenCanvas(640, 32);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  window.seen = [];
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

try {
  await call("POST", `${session}/url`, { url: `${http}/console/login?next=/live/${stream}` });
  await until("document.querySelector('#login')");
  await run(
    `const put = (id, text) => {
       const field = document.getElementById(id);
       field.value = text;
       field.dispatchEvent(new Event("input", { bubbles: true }));
     };
     put("login", arguments[0]);
     put("password", "a long enough pass phrase");
     document.querySelector("form button[type=submit]").click();`,
    login,
  );
  await until("document.querySelector('.stage[data-state=playing]')");
  await run(GATHER, Number(base));
  await new Promise((done) => setTimeout(done, Number(seconds) * 1_000));
  const { seen, stalls, told } = await run(`
    const { stalls, latency } = document.querySelector(".stage").dataset;
    return { seen: window.seen, stalls: Number(stalls), told: Number(latency) };`);
  seen.sort((a, b) => a - b);
  const at = (share) => Number(seen[Math.floor((seen.length - 1) * share)].toFixed(2));
  console.log(JSON.stringify({ samples: seen.length, p5: at(0.05), p50: at(0.5), p95: at(0.95), most: at(1), stalls, told }));
} finally {
  await call("DELETE", session).catch(() => {});
  driver.kill();
}
