// A call in the console, as browsers feel it: `benches/calls` runs this.
//   node calls_browser.mjs host HTTP
//     makes two people and a room, joins it as the one, says in one line of JSON who the other is and where to go, stays until its input
//     ends, and says in another when no picture of the other was shown: pairs of times
//   node calls_browser.mjs guest HTTP LOGIN ROOM JOINS MOVES LINK=ADDRESS=GATEWAY...
//     joins JOINS times, and times each until a picture of the host is on the page; then takes away the link the call runs over MOVES times,
//     each with another left, and times how long no picture was shown. The last line is one JSON object, with the times of taking.
import { execFileSync } from "node:child_process";
import { Browser } from "./browser.mjs";

const PASSWORD = "a long enough pass phrase";
const [role, http, ...rest] = process.argv.slice(2);
const pause = (ms) => new Promise((go_on) => setTimeout(go_on, ms));
const browser = await Browser.start([
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
  // Cameras are for secure origins; an address that is not the loopback's is one by this alone.
  `--unsafely-treat-insecure-origin-as-secure=${http}`,
]);
try {
  await (role === "host" ? hosts() : visits(...rest));
} finally {
  await browser.ends();
}

async function hosts() {
  const call = async (path, body, token) => {
    const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
    const answer = await fetch(http + path, { method: "POST", headers, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  };
  const [ann, bob] = ["ann", "bob"].map((name) => `${name}${Date.now().toString(36)}`);
  const made = [];
  for (const username of [ann, bob]) made.push(await call("/v1/accounts", { username, email: `${username}@nova.example`, password: PASSWORD }));
  const room = await call("/v1/rooms", { title: "measured" }, made[0].access_token);
  await browser.logs_in(http, ann, PASSWORD, `/calls/${room.id}`);
  await browser.presses("Join now");
  await browser.until("document.querySelector('.group-call[data-state=in]')");
  await browser.run(`
    window.dark = [];
    let last = null;
    const known = new WeakSet();
    const look = () => {
      const video = document.querySelector(".tile:not(.mine) video");
      if (video && !known.has(video)) {
        known.add(video);
        const shown = (now) => {
          const at = performance.timeOrigin + now;
          if (last !== null && at - last > 250) window.dark.push([Math.round(last), Math.round(at)]);
          last = Math.max(last ?? 0, at);
          video.requestVideoFrameCallback(shown);
        };
        video.requestVideoFrameCallback(shown);
      }
      requestAnimationFrame(look);
    };
    look();`);
  console.log(JSON.stringify({ login: bob, room: room.id }));
  process.stdin.resume();
  await new Promise((done) => process.stdin.once("end", done));
  console.log(JSON.stringify(await browser.run("return window.dark")));
}

async function visits(login, room, joins, moves, ...links) {
  await browser.logs_in(http, login, PASSWORD, `/calls/${room}`);
  await browser.until("document.querySelector('.group-call, form, button')");
  // Which path a connection runs over is told by its statistics alone.
  await browser.run(`
    const Whole = window.RTCPeerConnection;
    window.RTCPeerConnection = class extends Whole {
      constructor(...parts) {
        super(...parts);
        window.connection = this;
      }
    };`);
  const joined_ms = [];
  for (let nth = 0; nth < Number(joins); nth++) {
    joined_ms.push(await joins_once(nth === 0 ? "Join now" : "Join again"));
    if (nth + 1 < Number(joins)) {
      await browser.presses("Leave");
      await browser.until("!document.querySelector('.tile:not(.mine)')");
    }
  }
  const dark_ms = [];
  const taken = [];
  for (let nth = 0; nth < Number(moves); nth++) {
    const { taken_at, longest } = await moves_once(links.map((link) => link.split("=")));
    taken.push(taken_at);
    dark_ms.push(longest);
    console.error(`no picture for ${dark_ms.at(-1)} ms`);
  }
  const spread = (values) => {
    const sorted = [...values].sort((a, b) => a - b);
    return { times: sorted.length, p50: sorted[Math.floor((sorted.length - 1) / 2)], most: sorted.at(-1) };
  };
  console.log(JSON.stringify({ joined_ms: spread(joined_ms), taken, ...(dark_ms.length > 0 && { dark_ms: spread(dark_ms) }) }));
}

/** From pressing the button to the first picture of somebody else, in milliseconds. */
async function joins_once(words) {
  const button = `[...document.querySelectorAll("button")].find((one) => one.textContent.trim() === ${JSON.stringify(words)} && !one.disabled)`;
  await browser.until(`${button} !== undefined`);
  await browser.run(`
    window.first_ms = null;
    const known = new WeakSet();
    const look = () => {
      const video = document.querySelector(".tile:not(.mine) video");
      if (video && !known.has(video)) {
        known.add(video);
        video.requestVideoFrameCallback((now) => { window.first_ms ??= now - begun; });
      }
      if (window.first_ms === null) requestAnimationFrame(look);
    };
    const begun = performance.now();
    ${button}.click();
    look();`);
  await browser.until("window.first_ms !== null");
  return Math.round(await browser.run("return window.first_ms"));
}

/** When the path of the call was taken away, and how long no picture was shown around that, in milliseconds. */
async function moves_once(links) {
  await browser.run(`
    window.shown = [];
    const video = document.querySelector(".tile:not(.mine) video");
    const look = (now) => {
      window.shown?.push(performance.timeOrigin + now);
      video.requestVideoFrameCallback(look);
    };
    if (!video.looked_at) video.requestVideoFrameCallback(look);
    video.looked_at = true;`);
  await browser.until("window.shown.length > 20");
  await browser.run(`
    window.path = null;
    window.connection.getStats().then((stats) => {
      const all = [...stats.values()];
      const pair = stats.get(all.find((one) => one.type === "transport").selectedCandidatePairId);
      window.path = stats.get(pair.localCandidateId).address;
    });`);
  await browser.until("window.path !== null");
  const path = await browser.run("return window.path");
  const link = links.find(([, address]) => address === path);
  if (!link) throw new Error(`the call runs over ${path}, which is none of ${links}`);
  const [name, , gateway] = link;
  const metric = String(10 + links.indexOf(link));
  const taken_at = Date.now();
  // As where somebody leaves the range of a network: its address is gone too.
  execFileSync("ip", ["addr", "del", `${path}/24`, "dev", name]);
  execFileSync("ip", ["link", "set", name, "down"]);
  // Twenty pictures in a second and a half: it is over.
  const over = `(() => {
    const since = window.shown.filter((at) => at > ${taken_at + 250});
    return since.length > 20 && since.at(-1) - since.at(-20) < 1500;
  })()`;
  await browser.until(over, 60_000);
  const shown = await browser.run("return window.shown");
  let longest = 0;
  for (let at = 1; at < shown.length; at++) {
    if (shown[at] > taken_at) longest = Math.max(longest, shown[at] - shown[at - 1]);
  }
  execFileSync("ip", ["addr", "add", `${path}/24`, "dev", name]);
  execFileSync("ip", ["link", "set", name, "up"]);
  execFileSync("ip", ["route", "add", "default", "via", gateway, "metric", metric]);
  await pause(5_000);
  return { taken_at, longest: Math.round(longest) };
}
