import { Page } from "../parts/page";
import { to } from "../shell/router";

/** An address of the console where there is nothing. */
export function Missing() {
  return (
    <Page title="There is no such page" lead="The address may be mistyped, or the page may have moved.">
      <p>
        <a href={to("/")}>Go to the overview</a>
      </p>
    </Page>
  );
}
