/** The console: what starts it in a page. */

import { render } from "preact";
import { follow_links } from "./shell/router";
import { Shell } from "./shell/shell";
import "./style/app.css";

const root = document.getElementById("app");
if (root) {
  follow_links();
  render(<Shell />, root);
}
