// A headless Chromium, driven through chromedriver: what the measures that look at a real browser share.
import { spawn } from "node:child_process";

/** One browser with one page. */
export class Browser {
  #driver;
  #base;
  #session;

  constructor(driver, base, session) {
    this.#driver = driver;
    this.#base = base;
    this.#session = session;
  }

  /** Starts it, with `more` switches of Chromium. */
  static async start(more = []) {
    const driver = spawn("chromedriver", ["--port=0"], { stdio: ["ignore", "pipe", "ignore"] });
    const port = await new Promise((found) => {
      let text = "";
      driver.stdout.on("data", (bytes) => {
        text += bytes;
        const port = /started successfully on port (\d+)/.exec(text)?.[1];
        if (port) found(port);
      });
    });
    const args = [
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--autoplay-policy=no-user-gesture-required",
      "--window-size=1280,900",
      ...more,
    ];
    const base = `http://127.0.0.1:${port}`;
    const wanted = { capabilities: { alwaysMatch: { browserName: "chrome", "goog:chromeOptions": { args } } } };
    const { sessionId } = await call("POST", `${base}/session`, wanted);
    return new Browser(driver, base, `/session/${sessionId}`);
  }

  #call(method, path, body) {
    return call(method, `${this.#base}${this.#session}${path}`, body);
  }

  open(url) {
    return this.#call("POST", "/url", { url });
  }

  /** What a script returns. */
  run(script, ...args) {
    return this.#call("POST", "/execute/sync", { script, args });
  }

  /** Waits until an expression is true in the page. */
  async until(expression, limit_ms = 30_000) {
    const deadline = Date.now() + limit_ms;
    while (!(await this.run(`return ${expression}`))) {
      if (Date.now() > deadline) throw new Error(`never came true: ${expression}`);
      await new Promise((go_on) => setTimeout(go_on, 50));
    }
  }

  /** Logs in at the console and is led to `next`. */
  async logs_in(http, login, password, next) {
    await this.open(`${http}/console/login?next=${next}`);
    await this.until("document.querySelector('#login')");
    await this.fills({ login, password });
    await this.run("document.querySelector('form button[type=submit]').click()");
  }

  /** Types into fields, by their ids. */
  fills(fields) {
    return this.run(
      `for (const [id, text] of Object.entries(arguments[0])) {
         const field = document.getElementById(id);
         field.value = text;
         field.dispatchEvent(new Event("input", { bubbles: true }));
       }`,
      fields,
    );
  }

  /** Presses the button with these words, when it is there and may be pressed. */
  async presses(words) {
    const button = `[...document.querySelectorAll("button")].find((one) => one.textContent.trim() === ${JSON.stringify(words)} && !one.disabled)`;
    await this.until(`${button} !== undefined`);
    await this.run(`${button}.click()`);
  }

  async ends() {
    await this.#call("DELETE", "").catch(() => {});
    this.#driver.kill();
  }
}

async function call(method, url, body) {
  const answer = await fetch(url, { method, ...(body ? { body: JSON.stringify(body), headers: { "content-type": "application/json" } } : {}) });
  const { value } = await answer.json();
  if (value?.error) throw new Error(`${value.error}: ${value.message}`);
  return value;
}
